"""Numbers of toys as tables and lines, from values worked by hand; pictures that show every series."""

import pandas as pd
import pytest

from zephyr_lab.lab.teaching import toy_scores
from zephyr_lab.scoring.intervals import t_interval
from zephyr_lab.teaching import pictures

MEASURED = {"DPO": {"lost, %": [10.0, 30.0], "KL": [1e-12, 3e-12]}}


def test_a_number_is_a_mean_with_the_t_interval_over_toys():
    row = toy_scores.table(MEASURED, n=8).set_index("metric").loc["lost, %"]
    low, high = t_interval([10.0, 30.0])
    assert row["value"] == pytest.approx(20.0)
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    assert (row["n"], row["seeds"], row["source"]) == (8, 2, "exact toy")


def test_rounding_is_written_as_zero_where_the_caller_says_how_small_it_is():
    exact, rounded = (toy_scores.table(MEASURED, n=8, only=["KL"], zero_below=below) for below in (0.0, 1e-9))
    assert exact["value"].tolist() == pytest.approx([2e-12])
    assert rounded["value"].tolist() == [0.0] and len(rounded) == 1


def test_one_toy_has_no_row():
    assert toy_scores.table({"DPO": {"lost, %": [10.0]}}, n=8).empty


def test_the_best_of_some_trials_has_the_smallest_mean():
    assert toy_scores.best({0.1: {"lost": [0.4, 0.4]}, 0.3: {"lost": [0.1, 0.3]}}, "lost") == 0.3


def test_lines_on_log_scales_are_geometric_means_and_others_plain_ones():
    points = {step: [10.0**-step, 10.0 ** (-step - 2)] for step in (0, 1)}
    line = toy_scores.geometric_way("DPO", points, scale=2.0)
    assert line["x"].tolist() == [0, 1] and line["y"].tolist() == pytest.approx([0.2, 0.02])
    low, high = t_interval([0.0, -2.0])
    assert line["low"][0] == pytest.approx(2 * 10**low) and line["high"][0] == pytest.approx(2 * 10**high)
    assert toy_scores.way("DPO", points, scale=100.0)["y"].tolist() == pytest.approx([50.5, 5.05])
    assert toy_scores.geometric_way("DPO", {1: [0.0, 0.0]})["y"].tolist() == pytest.approx([toy_scores.FLOOR])


def test_points_are_means_of_two_quantities():
    line = toy_scores.mean_points("IPO", {0.1: {"r": [1.0, 2.0], "kl": [0.2, 0.4]}}, x="kl", y="r")
    assert line.iloc[0].to_dict() == {"series": "IPO", "value": 0.1, "x": pytest.approx(0.3), "y": 1.5}


def test_the_figures_show_every_series():
    lines = pd.concat([toy_scores.geometric_way(name, {10: [0.1, 0.2], 100: [0.2, 0.3]}) for name in ("a", "b")])
    picture = pictures.few_preferences(lines, lines, lines[lines["series"] == "a"], ringed="b")
    left, middle, right = picture.axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["a", "b"]
    assert [text.get_text() for text in middle.get_legend().get_texts()] == ["a", "b"]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["a"]
    assert pictures.convergence(lines).axes[0].get_yscale() == "log"
    points = toy_scores.mean_points("IPO", {0.1: {"r": [1.0, 2.0], "kl": [0.2, 0.4]}}, x="kl", y="r")
    frontiers = pictures.frontiers(points, points, points, count=60)
    assert {text.get_text() for text in frontiers.legends[0].get_texts()} == {"optimum, any beta", "IPO"}
    assert len(pictures.later(lines[lines["series"] == "a"]).axes[0].get_lines()) == 1
