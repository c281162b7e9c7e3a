"""The shift of representations against sums written out, and the selection against what it must do."""

import math

import numpy as np
import pytest

from zephyr_lab.scoring.representation_shift import mahalanobis, select, shift_score, shrunk_covariance

rng = np.random.default_rng(0)
BASE = rng.normal(size=(40, 3)) @ np.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.3, 1.5]])


def test_the_covariance_is_the_sum_written_out():
    mean = [sum(row[k] for row in BASE) / 40 for k in range(3)]
    expected = [[sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in BASE) / 40 for j in range(3)] for i in range(3)]
    assert shrunk_covariance(BASE, shrinkage=0.0) == pytest.approx(np.array(expected))
    middle = sum(expected[k][k] for k in range(3)) / 3
    shrunk = [[0.8 * expected[i][j] + (0.2 * middle if i == j else 0.0) for j in range(3)] for i in range(3)]
    assert shrunk_covariance(BASE, shrinkage=0.2) == pytest.approx(np.array(shrunk))


def test_the_score_is_the_mean_over_tokens_by_brute_force():
    covariance = shrunk_covariance(BASE, shrinkage=0.1)
    inverse = np.linalg.inv(covariance)
    base, target = BASE[:5], BASE[5:10]
    lengths = []
    for before, after in zip(base, target, strict=True):
        d = after - before
        lengths.append(math.sqrt(sum(d[i] * inverse[i][j] * d[j] for i in range(3) for j in range(3))))
    assert shift_score(base, target, covariance) == pytest.approx(sum(lengths) / 5)


def test_worked_by_hand():
    # S = diag(4, 1): (2, 0) has length 1, (0, 3) length 3
    covariance = np.diag([4.0, 1.0])
    assert mahalanobis([[2.0, 0.0], [0.0, 3.0]], covariance) == pytest.approx([1.0, 3.0])
    assert shift_score([[1.0, 1.0], [0.0, 0.0]], [[3.0, 1.0], [0.0, 3.0]], covariance) == pytest.approx(2.0)


def test_no_shift_scores_zero_and_doubling_the_shift_doubles_the_score():
    covariance = shrunk_covariance(BASE, shrinkage=0.1)
    assert shift_score(BASE[:4], BASE[:4], covariance) == 0.0
    shift = BASE[10:14]
    once, twice = (shift_score(BASE[:4], BASE[:4] + times * shift, covariance) for times in (1, 2))
    assert twice == pytest.approx(2 * once)


def test_without_shrinkage_no_change_of_coordinates_matters():
    turn = rng.normal(size=(3, 3))
    base, target = BASE[:6], BASE[6:12]
    plain = shift_score(base, target, shrunk_covariance(BASE, shrinkage=0.0))
    turned = shift_score(base @ turn, target @ turn, shrunk_covariance(BASE @ turn, shrinkage=0.0))
    assert turned == pytest.approx(plain)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shrunk_covariance(BASE[:1], shrinkage=0.1), "at least two tokens, got 1"),
        (lambda: shrunk_covariance(np.ones((5, 2)), shrinkage=0.1), "never vary"),
        (lambda: shrunk_covariance(BASE, shrinkage=1.5), "shrinkage must be from 0 to 1, got 1.5"),
        (lambda: shrunk_covariance([[math.nan], [1.0]], shrinkage=0.1), "finite numbers of shape"),
        (lambda: mahalanobis(BASE, np.eye(2)), r"covariance must have shape \(3, 3\), got \(2, 2\)"),
        (lambda: mahalanobis(BASE, np.zeros((3, 3))), "not positive definite"),
        (lambda: shift_score(BASE[:2], BASE[:3], np.eye(3)), r"target \(3, 3\) and base \(2, 3\)"),
        (lambda: shift_score(np.zeros((0, 3)), np.zeros((0, 3)), np.eye(3)), "at least one answer token"),
        (lambda: select([1.0], share=0.0, rule="top", seed=0), "share must be above 0 and at most 1, got 0.0"),
        (lambda: select([1.0], share=0.5, rule="best", seed=0), "rule must be one of top, bottom, random, got 'best'"),
        (lambda: select([], share=0.5, rule="top", seed=0), "scores must be finite, at least one, got 0"),
        (lambda: select([math.inf], share=0.5, rule="top", seed=0), "scores must be finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_top_and_bottom_take_the_ends():
    scores = [3.0, 1.0, 4.0, 1.0, 5.0]
    assert select(scores, share=0.4, rule="top", seed=0) == [2, 4]
    assert select(scores, share=0.4, rule="bottom", seed=0) == [1, 3]
    assert select(scores, share=0.2, rule="bottom", seed=0) == [1]  # of equals the earlier one
    assert select(scores, share=1.0, rule="top", seed=0) == [0, 1, 2, 3, 4]


def test_shares_are_rounded_up_and_not_by_the_last_bit():
    assert len(select([0.0] * 30, share=0.1, rule="top", seed=0)) == 3
    assert len(select([0.0] * 31, share=0.1, rule="top", seed=0)) == 4
    assert len(select([0.0] * 3, share=0.01, rule="top", seed=0)) == 1


def test_random_depends_on_the_seed_and_not_on_the_scores():
    first = select([float(k) for k in range(50)], share=0.5, rule="random", seed=1)
    assert first == select([0.0] * 50, share=0.5, rule="random", seed=1)
    assert first != select([float(k) for k in range(50)], share=0.5, rule="random", seed=2)
    assert len(set(first)) == 25 and first == sorted(first)
