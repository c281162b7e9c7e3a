"""Curves of reward against KL: support, interpolation and areas worked by hand."""

import numpy as np
import pytest

from zephyr_lab.scoring import frontiers

LINE = frontiers.curve([2.0, 1.0], [5.0, 3.0], start=1.0)  # 1 + 2 kl


def test_points_come_by_kl_with_the_start_first():
    x, y = LINE
    assert x.tolist() == [0, 1, 2]
    assert y.tolist() == [1, 3, 5]


def test_points_at_one_kl_count_once():
    x, y = frontiers.curve([1.0, 1.0], [2.0, 4.0], start=0.0)
    assert (x.tolist(), y.tolist()) == ([0, 1], [0, 3])


def test_scores_between_points_lie_on_the_line():
    assert frontiers.score_at(LINE, 1.5) == pytest.approx(4.0)


def test_the_mean_of_a_line_is_its_middle():
    assert frontiers.mean_score(LINE, 1.5) == pytest.approx(1 + 2 * 0.75)


def test_the_mean_of_a_bent_curve_is_its_area():
    bent = frontiers.curve([1.0, 3.0], [2.0, 2.0], start=0.0)
    # a triangle of 1 and a rectangle of 2, over a width of 2
    assert frontiers.mean_score(bent, 2.0) == pytest.approx((1 + 2) / 2)


def test_nothing_is_said_beyond_the_last_point():
    with pytest.raises(ValueError, match="where the curve ends, got"):
        frontiers.score_at(LINE, 2.5)
    with pytest.raises(ValueError, match="where the curve ends, got"):
        frontiers.mean_score(LINE, 2.5)


def test_common_support_ends_where_the_first_curve_does():
    short = frontiers.curve([0.5], [1.0], start=1.0)
    assert frontiers.common_support([LINE, short]) == 0.5


def test_a_better_point_at_equal_kl_lifts_the_mean_and_a_further_one_does_not():
    better = frontiers.curve([1.0, 2.0], [3.5, 5.0], start=1.0)
    further = frontiers.curve([1.0, 2.0, 9.0], [3.0, 5.0, 99.0], start=1.0)
    assert frontiers.mean_score(better, 2.0) > frontiers.mean_score(LINE, 2.0)
    assert frontiers.mean_score(further, 2.0) == pytest.approx(frontiers.mean_score(LINE, 2.0))


@pytest.mark.parametrize("kl", [-0.1, np.inf, np.nan])
def test_a_kl_that_cannot_be_is_refused(kl):
    with pytest.raises(ValueError, match="kl must be finite and not negative"):
        frontiers.curve([kl], [1.0], start=0.0)
