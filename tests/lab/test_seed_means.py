"""A number that each seed reports once: its mean, its interval, and nothing at all for one seed."""

import math

import pytest

from zephyr_lab.lab import seed_means
from zephyr_lab.reporting import tables


def test_three_seeds_worked_by_hand():
    # mean 2, sd 1, t(0.975, 2) = 4.302653, half width 4.302653 / sqrt(3)
    (line,) = seed_means.number("dSFT", "loss", [1.0, 2.0, 3.0], n=40)
    half = 4.302652729749462 / math.sqrt(3)
    assert (line["value"], line["low"], line["high"]) == pytest.approx((2, 2 - half, 2 + half))
    assert (line["n"], line["seeds"], line["interval"]) == (40, 3, "3 seeds, t 95 %")
    tables.frame([line])


def test_equal_values_say_that_they_have_no_interval():
    (line,) = seed_means.number("dSFT", "beta", [0.1, 0.1, 0.1], n=10)
    assert line["low"] == line["value"] == line["high"]
    assert line["interval"] == "3 seeds, all equal, no interval"
    shown = repr(tables.show(tables.frame([line])))
    assert "0.10 (n 10, 3 seeds)" in shown and "[0.10" not in shown


def test_one_seed_gives_no_line_and_a_claim_without_interval():
    assert seed_means.number("dSFT", "loss", [1.0], n=40) == []
    effect = seed_means.effect("Z4", "gap", [0.2], n=40)
    assert (effect["value"], effect["low"], effect["high"], effect["seeds"]) == (0.2, None, None, 1)


def test_a_curve_ends_where_the_shortest_seed_does():
    curve = seed_means.curve("train", [1, 2, 3], [[4.0, 2.0, 1.0], [6.0, 4.0]], kind="retrained")
    assert curve["x"].tolist() == [1, 2] and curve["y"].tolist() == [5, 3]
    assert (curve["low"] < curve["y"]).all() and (curve["high"] > curve["y"]).all()
    assert set(curve["interval"]) == {"2 seeds, t 95 %"}


def test_a_curve_of_one_seed_has_no_band():
    assert seed_means.curve("train", [1, 2], [[4.0, 2.0]], kind="retrained")["low"].isna().all()


def test_a_deviation_has_its_chi_square_interval_and_one_seed_has_none():
    (line,) = seed_means.deviation("DPO", "sd", [1.0, 2.0, 3.0, 4.0])
    assert line["value"] == pytest.approx(math.sqrt(5 / 3))
    assert line["low"] < line["value"] < line["high"] and line["interval"] == "4 seeds, chi-square 95 %"
    tables.frame([line])
    assert seed_means.deviation("DPO", "sd", [1.0]) == [] == seed_means.deviation("DPO", "sd", [2.0, 2.0])
