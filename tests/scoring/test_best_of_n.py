"""Best-of-n against all subsets, one by one, and against a simulation of its KL."""

import itertools
import math

import numpy as np
import pytest

from zephyr_lab.scoring import best_of_n

RANKS, VALUES = [0.3, -1.0, 2.0, 0.9, 0.5], [4.0, 7.0, 1.0, 9.0, 3.0]


def by_brute_force(ranks, values, n):
    found = []
    for subset in itertools.combinations(range(len(ranks)), n):
        best = max(ranks[place] for place in subset)
        found.append(np.mean([values[place] for place in subset if ranks[place] == best]))
    return np.mean(found)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_it_is_the_mean_over_all_subsets(n):
    assert best_of_n.expected_best(RANKS, VALUES, n=n) == pytest.approx(by_brute_force(RANKS, VALUES, n))


def test_one_draw_is_the_mean_of_the_pool():
    assert best_of_n.expected_best(RANKS, VALUES, n=1) == pytest.approx(np.mean(VALUES))


def test_all_draws_are_the_pools_best_by_the_ranking():
    assert best_of_n.expected_best(RANKS, VALUES, n=5) == pytest.approx(1.0)  # ranked 2.0, worth 1


def test_a_ranking_that_says_nothing_gains_nothing():
    for n in (1, 2, 4):
        assert best_of_n.expected_best([0.0] * 4, [1.0, 2.0, 3.0, 6.0], n=n) == pytest.approx(3.0)


def test_the_order_of_the_pool_changes_nothing():
    order = [3, 0, 4, 2, 1]
    shuffled = best_of_n.expected_best([RANKS[i] for i in order], [VALUES[i] for i in order], n=3)
    assert shuffled == pytest.approx(best_of_n.expected_best(RANKS, VALUES, n=3))


def test_chances_of_all_ranks_sum_to_one():
    assert best_of_n.best_chances(16, 5).sum() == pytest.approx(1.0)


def test_the_kl_of_distinct_answers_is_the_formula():
    # the best of n uniform draws has density n u^(n - 1); its divergence from the uniform is log n - (n - 1) / n
    draws = np.random.default_rng(0).random(400_000) ** (1 / 4)
    assert best_of_n.kl_bound(4) == pytest.approx(np.mean(np.log(4 * draws**3)), abs=0.01)


def test_the_kl_of_one_draw_is_nothing():
    assert best_of_n.kl_bound(1) == 0
    assert best_of_n.kl_bound(2) == pytest.approx(math.log(2) - 0.5)


@pytest.mark.parametrize("n", [0, 6])
def test_an_n_that_the_pool_lacks_is_refused(n):
    with pytest.raises(ValueError, match=f"n must be from 1 to 5, the answers of the pool, got {n}"):
        best_of_n.expected_best(RANKS, VALUES, n=n)
