"""Intervals of a spread and of a ratio of two, against SciPy's distributions and against simulated runs."""

import math

import numpy as np
import pytest
from scipy import stats

from zephyr_lab.scoring.spread import log_variance_ratio, of_deviation, power, standard_deviation


def runs(sd, count, times, seed):
    return np.random.default_rng(seed).normal(7.0, sd, size=(times, count))


def test_the_interval_of_a_standard_deviation_is_chi_squares():
    found = standard_deviation([1.0, 2.0, 3.0, 4.0])
    value, (low, high) = found.value, found.interval
    assert value == pytest.approx(math.sqrt(5 / 3))
    assert low == pytest.approx(value * math.sqrt(3 / stats.chi2.ppf(0.975, 3)))
    assert high == pytest.approx(value * math.sqrt(3 / stats.chi2.ppf(0.025, 3)))


def test_the_interval_of_a_ratio_is_snedecors():
    found = log_variance_ratio([1.0, 2.0, 3.0], [0.0, 4.0, 8.0, 12.0])
    value, (low, high) = found.value, found.interval
    assert value == pytest.approx(math.log(1 / (80 / 3)))
    assert low == pytest.approx(value - math.log(stats.f.ppf(0.975, 2, 3)))
    assert high == pytest.approx(value - math.log(stats.f.ppf(0.025, 2, 3)))


def test_turning_the_sides_round_turns_the_interval_round():
    found = log_variance_ratio([1.0, 2.0, 4.0], [0.0, 1.0, 9.0, 3.0])
    value, (low, high) = found.value, found.interval
    other = log_variance_ratio([0.0, 1.0, 9.0, 3.0], [1.0, 2.0, 4.0])
    assert (other.value, *other.interval) == pytest.approx((-value, -high, -low))


def test_19_of_20_intervals_of_simulated_runs_hold_the_truth():
    ours, theirs = runs(0.1, 10, 2000, 0), runs(0.3, 10, 2000, 1)
    truth = 2 * math.log(0.1 / 0.3)
    found = [log_variance_ratio(a, b).interval for a, b in zip(ours, theirs, strict=True)]
    held = np.mean([low <= truth <= high for low, high in found])
    assert held == pytest.approx(0.95, abs=0.015)  # three standard errors of 2000 trials
    held = np.mean([low <= 0.1 <= high for low, high in (standard_deviation(a).interval for a in ours)])
    assert held == pytest.approx(0.95, abs=0.015)


def test_power_is_how_often_simulated_runs_resolve_the_ratio():
    ours, theirs = runs(1.0, 5, 4000, 2), runs(3.0, 8, 4000, 3)
    resolved = np.mean([log_variance_ratio(a, b).interval.high < 0 for a, b in zip(ours, theirs, strict=True)])
    assert power(1 / 9, 5, 8) == pytest.approx(resolved, abs=0.025)


def test_equal_spreads_are_resolved_by_mistake_once_in_forty():
    assert power(1.0, 10, 10) == pytest.approx(0.025)


def test_too_few_runs_or_none_that_vary_have_no_interval():
    assert standard_deviation([1.0]) is None
    assert log_variance_ratio([1.0], [1.0, 2.0]) is None
    assert log_variance_ratio([1.0, 1.0], [1.0, 2.0]) is None
    with pytest.raises(ValueError, match=r"ratio must be positive and runs at least 2, got 0\.0 and 5 and 5 runs"):
        power(0.0, 5, 5)


def test_a_published_deviation_has_the_interval_of_the_values_it_came_from():
    values = [5.1, 5.9, 6.2, 5.4, 6.0]
    assert of_deviation(float(np.std(values, ddof=1)), 5) == standard_deviation(values)
    with pytest.raises(ValueError, match=r"of two values or more, got 0\.1 of 1"):
        of_deviation(0.1, 1)


def test_equal_runs_have_no_spread_to_give_an_interval():
    assert standard_deviation([0.1 + 0.2, 0.3, 0.3]) is None
    assert log_variance_ratio([0.1 + 0.2, 0.3], [1.0, 2.0]) is None
