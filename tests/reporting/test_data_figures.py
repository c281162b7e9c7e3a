"""Figures of the data notebooks: what is drawn is what the frame says, same data, same bytes."""

import pandas as pd
import pytest

from zephyr_lab.reporting import data_figures, style, tables


@pytest.fixture(autouse=True)
def look():
    style.house_style()


def line(row, metric, value, half=1.0, **more):
    number = {"row": row, "metric": metric, "kind": "recomputed", "value": value, "low": value - half}
    return number | {"high": value + half, "n": 10, "interval": "rows, Wilson 95 %", "source": "made up"} | more


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_waterfall_starts_where_the_last_step_ended():
    steps = [line("case", "repaired", 20), line("cut", "dropped", 30), line("twins", "dropped", 10)]
    frame = tables.frame([*steps, line("kept", "rows", 60)])
    figure = data_figures.waterfall(frame, unit="rows")
    (ax,) = figure.axes
    dropped = [bar for bar in ax.patches if bar.get_hatch() == "xx"]
    assert [(bar.get_x(), bar.get_width()) for bar in dropped] == [(70, 30), (60, 10)]
    assert texts(ax) == [
        "repairs 20.0 % [19.0, 21.0]",
        "drops 30.0 % [29.0, 31.0]",
        "drops 10.0 % [9.0, 11.0]",
        "keeps 60.0 % [59.0, 61.0]",
    ]


def test_each_planted_value_has_its_dashed_line_and_its_estimates():
    frame = tables.frame([line("a", "noise", 1.1), line("b", "noise", 0.9), line("c", "noise", 4.2)])
    figure = data_figures.recovered(frame.assign(planted=[1.0, 1.0, 4.0]), {"noise": "noise"})
    (ax,) = figure.axes
    heights = sorted({y for collection in ax.collections for path in collection.get_segments() for y in path[:, 1]})
    assert {1.0, 4.0} <= set(heights)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4"]


def test_a_metric_without_estimates_is_refused():
    frame = tables.frame([line("a", "noise", 1.0)]).assign(planted=[1.0])
    with pytest.raises(ValueError, match=r"no metric named 'bias'; known: noise"):
        data_figures.recovered(frame, {"bias": "bias"})


def test_correlations_stand_in_the_lower_triangle_and_zero_has_no_sign():
    frame = tables.frame([line("b", "a", 0.5, 0.1), line("c", "a", -0.001, 0.2), line("c", "b", 0.9, 0.05)])
    figure = data_figures.correlation_maps({"rated": frame}, {"a": "A", "b": "B", "c": "C"})
    (ax,) = figure.axes
    assert {(text.get_position(), text.get_text()) for text in ax.texts} == {
        ((0, 0), "0.50"),
        ((0, 1), "0.00"),
        ((1, 1), "0.90"),
    }
    assert "±0.20" in ax.get_title()


def position_frame(values):
    rows = [
        line(f"{rule}, {place}", "position", value) for rule, four in values.items() for place, value in enumerate(four)
    ]
    rules = [rule for rule in values for _ in range(4)]
    return tables.frame(rows).assign(rule=rules, place=[*range(4)] * len(values))


def test_positions_have_a_panel_a_rule_and_points_for_the_second_frame():
    world = position_frame({"chosen": (40, 30, 20, 10), "first_release": (60, 0, 40, 0)})
    alone = data_figures.positions([("world", world), ("real", world.iloc[:0])])
    both = data_figures.positions([("world", world), ("real", world)])
    assert [ax.get_title() for ax in alone.axes] == ["chosen:\nby all rules", "rejected:\nfirst release"]
    assert [bar.get_height() for bar in alone.axes[1].patches] == [60, 0, 40, 0]
    assert len(both.axes[0].containers) == len(alone.axes[0].containers) + 1


def test_bars_are_exact_scores_and_points_are_ratings():
    rows, places = [], []
    for metric, value in (("exact", 10.0), ("overall", 20.0)):
        for score in range(1, 11):
            rows.append(line(f"strong, {score}", metric, value))
            places.append(score)
    frame = tables.frame(rows).assign(writer="strong", score=places)
    (ax,) = data_figures.score_histograms(frame).axes
    assert {bar.get_height() for bar in ax.patches} == {10.0}
    assert {y for drawn in ax.lines if drawn.get_marker() == "s" for y in drawn.get_ydata()} == {20.0}


def test_skills_show_every_base_and_no_mean_of_one_alone():
    probed = pd.DataFrame(
        [(0, "math", 0.2, 0.4, 40), (1, "math", 0.6, 0.8, 40)],
        columns=["seed", "category", "first_turn", "second_turn", "tasks"],
    )
    means = tables.frame([line("math", "first_turn", 40, 80, interval="2 bases, t 95 %")])
    titles = {"first_turn": "first"}
    with_mean = data_figures.skills(probed, means, titles)
    drawn = [
        collection.get_offsets()[0][0]
        for collection in with_mean.axes[0].collections
        if len(collection.get_offsets()) == 1
    ]
    assert [share for share in drawn if share] == [20, 60]
    assert len(with_mean.legends[0].get_texts()) == 3
    assert len(data_figures.skills(probed, means.iloc[:0], titles).legends[0].get_texts()) == 2


def test_same_frame_same_bytes():
    frame = position_frame({"chosen": (40, 30, 20, 10)})
    first, second = (data_figures.positions([("world", frame)]).encode("svg") for _ in range(2))
    assert first == second
