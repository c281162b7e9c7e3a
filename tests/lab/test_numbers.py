"""Lines of the tidy frame: values and intervals from worked numbers, refusals named."""

import math

import numpy as np
import pytest
from scipy import stats

from zephyr_lab.lab import numbers
from zephyr_lab.reporting import tables


def test_a_share_is_in_percent_with_wilson_s_interval():
    # Wilson for 3 of 10, by the formula: centre (0.3 + z^2 / 20) / (1 + z^2 / 10)
    line = numbers.share("a", "b", 3, 10, of="rows")
    expected = stats.binomtest(3, 10).proportion_ci(method="wilson")
    assert line["value"] == 30 and line["n"] == 10 and line["interval"] == "rows, Wilson 95 %"
    assert (line["low"], line["high"]) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_a_mean_has_student_s_interval():
    # mean 2, sd 1, n 3: 2 +- 4.302653 / sqrt(3)
    line = numbers.mean("a", "b", [1.0, 2.0, 3.0], of="rows")
    assert line["value"] == 2
    assert line["high"] - line["value"] == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)


def test_a_correlation_has_fisher_s_interval():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    y = x + rng.normal(size=50)
    line = numbers.correlation("a", "b", x, y, of="rows")
    expected = stats.pearsonr(x, y)
    assert line["value"] == pytest.approx(expected.statistic)
    assert (line["low"], line["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)), abs=1e-9)


def test_a_perfect_correlation_says_that_it_has_no_interval():
    line = numbers.correlation("a", "b", [1.0, 2, 3, 4], [-1.0, -2, -3, -4], of="rows")
    assert [line["low"], line["value"], line["high"]] == pytest.approx([-1, -1, -1])
    assert line["interval"] == "rows, all on one line, no interval"


def test_equal_values_say_that_they_have_no_interval():
    line = numbers.mean("a", "b", [2.0] * 5000, of="questions")
    assert (line["low"], line["value"], line["high"]) == (2.0, 2.0, 2.0)
    assert line["interval"] == "questions, all equal, no interval"


def test_lines_pass_the_rules_of_a_tidy_frame():
    lines = [
        numbers.share("a", "b", 0, 10, of="rows"),
        numbers.share("a", "c", 10, 10, of="rows"),
        numbers.mean("a", "d", [1.0, 1.0], of="rows"),
        numbers.correlation("a", "e", [1.0, 2, 3, 4], [1.0, 2, 3, 4], of="rows"),
    ]
    assert len(tables.frame(lines)) == 4


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: numbers.share("a", "b", 0, 0, of="rows"), "b of a: a share needs at least one of the rows"),
        (lambda: numbers.mean("a", "b", [1.0], of="rows"), "at least two of the rows, got 1"),
        (lambda: numbers.correlation("a", "b", [1.0], [1.0], of="rows"), "at least four, got 1 and 1 rows"),
        (lambda: numbers.correlation("a", "b", [1.0] * 4, [1.0, 2, 3, 4], of="rows"), "never varies"),
    ],
)
def test_a_number_without_an_interval_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
