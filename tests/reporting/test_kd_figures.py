"""Figures 2 and 3 of KD + DAE show every weight and every row that they are given, and nothing else."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from zephyr_lab.reporting.paper_figures import RoutedRow, attention_triangles, routing

TOKENS = ["<|user|>", "\n", "Who", "?"]


def triangle():
    weights = np.tril(np.ones((4, 4)))
    return weights / weights.sum(axis=1, keepdims=True)


def test_a_triangle_shows_its_weights_and_hides_what_lies_above_the_diagonal():
    figure = attention_triangles({"base": triangle(), "teacher": triangle()}, TOKENS, title="layer 1")
    shown = figure.axes[0].collections[0].get_array().reshape(4, 4)
    assert shown.mask.tolist() == np.triu(np.ones((4, 4)), 1).astype(bool).tolist()
    assert shown[3].tolist() == [0.25] * 4
    assert [ax.get_title() for ax in figure.axes[:2]] == ["base", "teacher"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["<|user|>", "⏎", "Who", "?"]


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"the map of 'base' is \(3, 3\), for 4 tokens"):
        attention_triangles({"base": np.eye(3)}, TOKENS, title="")


def bars(figure):
    """(left, width, height on the page, whether filled) of each bar."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    return [(bar.get_x(), bar.get_width(), bar.get_y() + bar.get_height() / 2, bar.get_facecolor()[3] > 0)
            for bar in found]  # fmt: skip


def test_a_row_is_a_bar_on_the_left_and_two_in_the_stack_the_experts_rows_first():
    rows = [
        RoutedRow(False, "general", 10, 0.0, 0.125),
        RoutedRow(True, "expert", 20, 0.5, 0.25),
        RoutedRow(False, "general", 5, 0.0, 0.0625),
    ]
    figure = routing(rows, title="batch 4 of seed 0")
    found = bars(figure)
    batch, stack = found[:3], found[3:]
    assert [width / batch[1][1] for _, width, _, _ in batch] == pytest.approx([0.5, 1.0, 0.25])  # tokens
    after, before = ([one for one in stack if one[3] is filled] for filled in (True, False))
    longest = before[0][1]
    assert [width / longest for _, width, _, _ in before] == pytest.approx([1.0, 0.0, 0.0])
    assert [width / longest for _, width, _, _ in after] == pytest.approx([0.5, 0.25, 0.125])
    assert [place for _, _, place, _ in after] == [place for _, _, place, _ in before] == pytest.approx([0, 1, 2])
    words = [text.get_text() for text in figure.axes[0].texts]
    assert "domain\nexpert\n1 row" in words and "frozen\nreference\n2 rows" in words
    assert "0.5 → 0.25" in words and "0 → 0.12" in words
    assert any(said.startswith("batch 4 of seed 0, 3 rows\n") for said in words)


def test_a_row_that_no_teacher_is_asked_about_has_no_place_in_the_stack():
    rows = [RoutedRow(True, "expert", 20, 0.5, 0.25), RoutedRow(False, "", 5, 0.0, 0.0)]
    assert len(bars(routing(rows, title=""))) == 4
    with pytest.raises(ValueError, match="a batch has at least one row"):
        routing([], title="")
