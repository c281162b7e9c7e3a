"""Pictures that only one kind of table needs."""

import pandas as pd

from zephyr_lab.lab import point_figures
from zephyr_lab.reporting import tables


def test_every_arm_has_a_panel_with_every_category_on_one_scale():
    line = {"kind": "retrained", "low": 4.0, "high": 10.0, "n": 40, "seeds": 2, "interval": "2 seeds", "source": "s"}
    rows = [
        {"row": arm, "metric": category, "value": 5.0, **line} for arm in ("a", "b") for category in ("math", "stem")
    ]
    picture = point_figures.category_panels(tables.frame(rows), {"a": "first", "b": "second"})
    assert [ax.get_xlabel() for ax in picture.axes] == ["first", "second"]
    ((low, high),) = {ax.get_xlim() for ax in picture.axes}
    assert low == 1 and high > 10  # the mark of a full score is whole
    assert [label.get_text() for label in picture.axes[0].get_yticklabels()] == ["math", "stem"]


def test_ours_and_theirs_stand_in_panels_of_their_own():
    ours = pd.DataFrame({"series": "train", "kind": "retrained", "x": [0, 1], "y": [0.7, 0.6]})
    theirs = pd.DataFrame({"series": "train", "kind": "quoted", "x": [0, 1, 2], "y": [0.7, 0.5, 0.1]})
    left, right = point_figures.beside(ours, theirs, y_label="loss").axes
    assert (left.get_title(), right.get_title()) == ("ours, embedded world", "published log")
    assert len(right.lines[0].get_xdata()) == 3 and right.lines[0].get_markerfacecolor() == "white"
