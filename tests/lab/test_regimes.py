"""Regime maps: points at the values of a knob, what an interval says of them, and the sentence made of it."""

import pandas as pd
import pytest

from zephyr_lab.lab import regimes
from zephyr_lab.lab.claims import Claims
from zephyr_lab.lab.sizes import PreferenceGrids
from zephyr_lab.reporting import tables


def differences(*points, metric="mt_bench"):
    """A tidy frame of (row, value, half-width of the interval)."""
    return tables.frame(
        {
            "row": row, "metric": metric, "kind": "retrained", "value": value, "low": value - half,
            "high": value + half, "n": 320, "seeds": 3, "interval": "3 seeds, t 95 %", "source": "s",
        }
        for row, value, half in points
    )  # fmt: skip


def test_points_stand_in_the_order_of_the_knob_and_lines_in_that_of_the_frame():
    both = pd.concat([differences(("b", 1.0, 0.1), ("a", 2.0, 0.1)), differences(("b", 3.0, 0.1), metric="hot")])
    lines = regimes.placed(both, {"a": 0.5, "b": 7.0}, series={"mt_bench": "near-greedy", "hot": "T = 0.7"})
    assert list(lines["series"]) == ["near-greedy", "near-greedy", "T = 0.7"]
    assert list(lines["x"]) == [0.5, 7.0, 7.0] and list(lines["y"]) == [2.0, 1.0, 3.0]


def test_a_metric_without_a_line_is_left_out_and_a_row_without_a_place_refused():
    both = pd.concat([differences(("a", 1.0, 0.1)), differences(("a", 3.0, 0.1), metric="hot")])
    assert len(regimes.placed(both, {"a": 1}, series={"hot": "T = 0.7"})) == 1
    with pytest.raises(ValueError, match="no value of the knob for 'a'; there are 'b'"):
        regimes.placed(both, {"b": 1}, series="effect")


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.11, 0.5, "pays by more than 0.1"),
        (0.05, 0.5, "pays, by how much is open,"),
        (-0.05, 0.05, "within 0.1 of no effect"),
        (-0.3, 0.05, "not resolved"),
        (-0.5, -0.05, "costs, by how much is open,"),
        (-0.5, -0.11, "costs by more than 0.1"),
        (float("nan"), float("nan"), "no interval"),
    ],
)
def test_an_interval_says_on_which_side_of_zero_and_of_the_margin_it_lies(low, high, says):
    assert regimes.reading({"low": low, "high": high}, 0.1, "pays", "costs") == says
    turned = {"pays": "costs", "costs": "pays"}
    mirrored = says.replace(says.split()[0].strip(","), turned.get(says.split()[0].strip(","), says.split()[0]), 1)
    assert regimes.reading({"low": -high, "high": -low}, 0.1, "pays", "costs") == mirrored


def test_without_a_margin_the_side_of_zero_alone_is_said():
    assert regimes.reading({"low": 0.01, "high": 0.2}, 0.0, "rises", "falls") == "rises"
    assert regimes.reading({"low": -0.1, "high": 0.2}, 0.0, "rises", "falls") == "not resolved"


def test_the_sentence_says_from_where_on_it_pays():
    points = differences(("a", -0.9, 0.2), ("b", -0.5, 0.2), ("c", 0.1, 0.3), ("d", 0.4, 0.2), ("e", 0.8, 0.2))
    lines = regimes.placed(points, dict(zip("abcde", (-2, -1, 0, 1, 2), strict=True)), series="near-greedy")
    said = regimes.sentences(lines, "dDPO - dSFT-2", over="the lead")
    about = "dDPO - dSFT-2, near-greedy, over the lead"
    assert said == {
        about: f"{about}: costs by more than 0.1 up to -1 (most -0.90 [-1.10, -0.70] at -2); not resolved at 0 "
        "(+0.10 [-0.20, 0.40]); pays by more than 0.1 from 1 on (most +0.80 [0.60, 1.00] at 2)"
    }


def test_maps_of_one_comparison_over_two_knobs_are_two_findings():
    lines = regimes.placed(differences(("a", 1.0, 0.2), ("b", 0.9, 0.2)), {"a": 1, "b": 3}, series="KD")
    assert len(regimes.sentences(lines, "gain", over="rows") | regimes.sentences(lines, "gain", over="steps")) == 2


def test_one_reading_everywhere_is_said_once():
    lines = regimes.placed(differences(("a", 1.0, 0.2), ("b", 0.9, 0.2)), {"a": 1, "b": 3}, series="KD")
    (said,) = regimes.sentences(lines, "gain", over="rows").values()
    assert said.startswith("gain, KD, over rows: pays by more than 0.1 at every point tried, 1 to 3 (most +1.00")


def test_a_map_shades_the_margin_marks_zero_and_leaves_published_effects_hollow():
    lines = regimes.placed(differences(("a", 1.0, 0.2), ("b", 0.9, 0.2)), {"a": 1, "b": 4}, series="KD")
    marks = [regimes.Published(0.81, "Table 3"), regimes.Published(1.28, "Table 2", x=2)]
    picture = regimes.picture(lines, x_label="rows", y_label="gain", published=marks, log=True)
    (ax,) = picture.axes
    assert ax.get_xscale() == "log" and [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4"]
    levels = [line.get_ydata()[0] for line in ax.lines]
    assert 0 in levels and 0.81 in levels and 1.28 in levels
    hollow = next(line for line in ax.lines if line.get_ydata()[0] == 1.28)
    assert hollow.get_markerfacecolor() == "white"
    texts = [text.get_text() for text in picture.legends[0].get_texts()]
    assert texts == ["margin, 0.1", "published: Table 3", "published: Table 2"]
    assert picture.encode("png")[:4] == b"\x89PNG"


def test_a_map_without_points_says_so():
    empty = regimes.placed(tables.frame([]), {}, series="KD")
    (ax,) = regimes.picture(empty, x_label="x", y_label="y").axes
    assert [text.get_text() for text in ax.texts] == ["no point at this profile"]
    assert regimes.sentences(empty, "gain", over="rows") == {}


def test_what_was_said_is_said_again_in_the_findings(capsys):
    claims = Claims("zephyr")
    claims.say({"gain": "gain over rows: pays from 1 on"})
    claims.findings()
    assert capsys.readouterr().out == "gain over rows: pays from 1 on\n- gain over rows: pays from 1 on\n"


def test_few_seeds_leave_out_every_second_point_of_a_longer_knob():
    grid = PreferenceGrids(
        full_from=5, dialogues=(1, 2, 3, 6, 9), turned_over=(0.0, 0.5), doses=(), writers=(), betas=(0.1,)
    )
    coarse = grid.at(3)
    assert coarse.dialogues == (1, 3, 9)
    assert (coarse.turned_over, coarse.betas) == ((0.0, 0.5), (0.1,))
    assert grid.at(5) == grid
