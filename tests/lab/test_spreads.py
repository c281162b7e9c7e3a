"""How much scores vary: deviations and their ratio against NumPy, judges with error, and what few runs can resolve."""

import math

import numpy as np
import pytest

from kd_answers import chat
from zephyr_lab.lab import spreads
from zephyr_lab.lab.answers import Answers
from zephyr_lab.scoring.spread import log_variance_ratio
from zephyr_lab.world.benchmark import mt_bench

WIDE, NARROW = (0.0, 0.9, -0.9, 0.5, -0.5, 0.7), (0.0, 0.01, -0.01, 0.02, -0.02, 0.015)


@pytest.fixture(scope="module")
def answers():
    frame = chat({"wide": 4.0, "narrow": 7.5}, ("wide", "narrow"), range(6), apart=0.0)
    for arm, added in (("wide", WIDE), ("narrow", NARROW)):
        rows = frame["model"] == arm
        frame.loc[rows, "score"] += frame.loc[rows, "seed"].map(dict(enumerate(added)))
    return Answers(frame)


def test_deviations_are_over_seeds_or_what_they_are_said_to_be_over(answers):
    table = spreads.deviations(answers, ("wide", "narrow"), metric="asked again", of="askings").set_index("row")
    assert table["value"].to_dict() == pytest.approx({"wide": np.std(WIDE, ddof=1), "narrow": np.std(NARROW, ddof=1)})
    assert set(table["interval"]) == {"6 askings, chi-square 95 %"} and set(table["seeds"]) == {1}
    assert set(spreads.deviations(answers, ("wide",))["seeds"]) == {6}


def test_judges_with_error_vary_by_their_error_alone(answers):
    questions = mt_bench(320)
    table = spreads.judged_again(answers, ("wide",), questions, times=4, sd=1.0)
    assert 0 < table["value"].item() < 1 and table["interval"].item() == "4 judgings, chi-square 95 %"
    assert spreads.judged_again(answers, ("wide",), questions, times=4, sd=0.0).empty


def test_a_ratio_of_variances_has_its_f_interval_and_one_run_has_none():
    row = spreads.variance_ratio("K2", "log", list(NARROW), list(WIDE))
    expected = log_variance_ratio(list(NARROW), list(WIDE))
    assert row["value"] == pytest.approx(expected.value) == pytest.approx(math.log(np.var(NARROW) / np.var(WIDE)))
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.interval)) and (row["n"], row["seeds"]) == (12, 6)
    assert spreads.variance_ratio("K2", "log", [1.0], [2.0])["low"] is None


def test_the_chance_to_resolve_rises_with_runs_and_with_the_ratio():
    table = spreads.resolving_power({"a seventh": 1 / 7, "one half": 1 / 2}, (10, 5, 20, 10))
    table = table.set_index("ratio of standard deviations").filter(like="power")
    assert list(table.columns) == [f"power, {runs} runs an arm" for runs in (5, 10, 20)]
    assert table.loc["one half"].is_monotonic_increasing
    assert (table.loc["a seventh"] > table.loc["one half"]).all()


def test_printed_deviations_bear_the_interval_of_their_runs():
    (row,) = spreads.quoted(["KD"], [0.051], [5], source="Table 2").to_dict("records")
    assert (row["kind"], row["value"], row["interval"]) == ("quoted", 0.051, "5 runs, chi-square 95 %")
    assert row["low"] < 0.051 < row["high"]
