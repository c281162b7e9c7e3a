"""p-values say what the intervals say, each kind by SciPy's own distribution; Holm by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from zephyr_lab.scoring.intervals import (
    BOOTSTRAP,
    EXACT,
    Estimate,
    Interval,
    clopper_pearson,
    t_estimate,
)
from zephyr_lab.scoring.p_values import chances, holm, mean_squares_of
from zephyr_lab.scoring.spread import log_variance_ratio


def test_a_t_interval_has_students_p():
    values = [0.3, 0.5, 0.1, 0.4]
    measured = t_estimate(values, of="4 seeds", seeds=4)
    told = stats.ttest_1samp(values, 0.1, alternative="greater").pvalue
    assert chances(measured, 0.1) == pytest.approx((told, 1 - told), rel=1e-6)
    assert mean_squares_of(measured).of_seeds == pytest.approx(np.var(values, ddof=1))


def test_a_share_has_the_exact_p():
    measured = Estimate(3 / 40, clopper_pearson(3, 40), 40, EXACT)
    above, below = (stats.binomtest(3, 40, 0.2, alternative=side).pvalue for side in ("greater", "less"))
    assert chances(measured, 0.2) == pytest.approx((above, below))
    none = Estimate(0.0, clopper_pearson(0, 4000), 4000, EXACT)
    assert chances(none, 0.001) == pytest.approx((1.0, 0.999**4000))


def test_a_variance_ratio_has_fs_p():
    ours, theirs = [1.0, 2.0, 4.0, 8.0], [3.0, 3.1, 3.3, 2.9, 3.2]
    ratio = np.var(ours, ddof=1) / np.var(theirs, ddof=1)
    assert chances(log_variance_ratio(ours, theirs), 0.0).as_high == pytest.approx(stats.f.sf(ratio, 3, 4))


def test_a_bootstrap_is_read_as_normal_on_the_side_that_counts():
    measured = Estimate(1.0, Interval(0.6, 2.0), 100, BOOTSTRAP)
    assert chances(measured, 0.6).as_high == pytest.approx(0.025)
    assert chances(measured, 2.0).as_low == pytest.approx(0.025)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=6), st.floats(-5, 5))
def test_two_sided_p_is_below_a_twentieth_where_the_interval_leaves_the_value_out(values, at):
    measured = t_estimate(values, of="seeds")
    if measured.spread > 1e-6:
        low, high = measured.interval
        if min(abs(at - low), abs(at - high)) > 1e-6:
            assert (2 * min(chances(measured, at)) < 0.05) == (not low <= at <= high)


def test_a_count_has_no_p():
    assert chances(Estimate(0.0, Interval(0.0, 0.0), 3, "a count"), 1.0) is None
    assert chances(Estimate(0.0, None, 3), 1.0) is None


def test_holm_worked_by_hand():
    # ranked 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 and never falling: 0.02, 0.03, 0.06, 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_holm_lets_few_families_of_true_nulls_through():
    draw = np.random.default_rng(0).uniform(size=(4000, 30))
    wrong = np.mean([min(holm(list(family))) < 0.05 for family in draw])
    assert 0.04 < wrong < 0.06  # independent: 1 - 0.95 of all families, nearly exactly
