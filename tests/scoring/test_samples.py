"""Total variation by hand, and a chi-square test that keeps its level and sees a difference."""

import numpy as np
import pytest
from scipy import stats

from zephyr_lab.scoring.samples import chi_square_p, total_variation


def test_total_variation_by_hand():
    assert total_variation(["a", "a", "b", "c"], ["a", "b", "b", "d"]) == pytest.approx((0.25 + 0.25 + 0.25 + 0.25) / 2)
    assert total_variation(["a", "b"], ["b", "a"]) == 0.0
    assert total_variation(["a"], ["b"]) == 1.0


def test_chi_square_is_scipys_where_nothing_is_rare():
    ours, theirs = ["a"] * 30 + ["b"] * 20, ["a"] * 24 + ["b"] * 36
    expected = stats.chi2_contingency([[30, 20], [24, 36]], correction=False).pvalue
    assert chi_square_p(ours, theirs) == pytest.approx(expected)


def test_rare_values_are_counted_together():
    ours, theirs = ["a"] * 50 + ["x", "y", "z"] * 3, ["a"] * 50 + ["u", "v", "w"] * 3
    expected = stats.chi2_contingency([[50, 9], [50, 9]], correction=False).pvalue
    assert chi_square_p(ours, theirs) == pytest.approx(expected)


def test_the_test_keeps_its_level_and_sees_a_difference():
    rng = np.random.default_rng(0)

    def rejected(share):
        draws = [(rng.random(400) < 0.5, rng.random(400) < share) for _ in range(300)]
        return np.mean([chi_square_p(first.tolist(), second.tolist()) < 0.05 for first, second in draws])

    assert rejected(0.5) < 0.09  # binomial(300, 0.05): three standard errors are 0.038
    assert rejected(0.65) > 0.9


def test_equal_constants_have_nothing_to_test_and_an_empty_side_is_refused():
    assert chi_square_p(["a"] * 9, ["a"] * 9) == 1.0
    with pytest.raises(ValueError, match="each side needs samples, got 0 and 1"):
        chi_square_p([], ["a"])
    with pytest.raises(ValueError, match="no samples"):
        total_variation([], ["a"])
