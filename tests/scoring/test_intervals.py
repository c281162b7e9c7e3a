"""Intervals against worked numbers, brute force and simulated data whose truth is known."""

import itertools
import math

import numpy as np
import pytest

from zephyr_lab.scoring.intervals import (
    bootstrap_difference,
    bootstrap_interval,
    mean_estimate,
    paired_t_interval,
    t_interval,
)


def generator():
    return np.random.default_rng(0)


def outside_chance(covered, trials, truth=0.95):
    """Whether a count of hits is too far from `truth` to be chance: four standard errors, 1 in 16,000."""
    return abs(covered / trials - truth) > 4 * math.sqrt(truth * (1 - truth) / trials)


def test_t_interval_worked_by_hand():
    # 1, 2, 3: mean 2, standard deviation 1; t(0.975, 2 degrees) = 4.302653 in any printed table
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6)


def test_pairing_takes_out_what_both_arms_share():
    # differences 1, 2, 3 under a spread of thousands
    assert paired_t_interval([1001.0, 5002.0, 3.0], [1000.0, 5000.0, 0.0]) == pytest.approx(t_interval([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("values", [[], [7.0]])
def test_one_seed_gives_no_interval(values):
    assert t_interval(values) is None
    assert paired_t_interval(values, values) is None
    assert bootstrap_interval(values, ["q"] * len(values), generator=generator()) is None


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="finite"):
        t_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="as many values on both sides, got 1 and 2"):
        paired_t_interval([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="got 2 values, 1 questions"):
        bootstrap_interval([1.0, 2.0], ["a"], generator=generator())


def test_bootstrap_equals_the_count_of_all_resamples():
    # five questions with one to three values each: all 5^5 draws are listed, each as likely as the others
    groups = [[1.0], [2.0, 9.0], [4.0], [5.0, 5.0, 8.0], [3.0]]
    means = []
    for drawn in itertools.product(groups, repeat=len(groups)):
        pooled = [value for group in drawn for value in group]
        means.append(sum(pooled) / len(pooled))
    expected = np.percentile(means, [2.5, 97.5])
    values = [value for group in groups for value in group]
    questions = [name for name, group in zip("abcde", groups, strict=True) for _ in group]
    drawn = bootstrap_interval(values, questions, generator=generator(), resamples=200_000)
    assert drawn == pytest.approx(expected, abs=0.03)


def test_bootstrap_of_equal_questions_has_no_width():
    assert bootstrap_interval([5.0, 5.0, 5.0], ["a", "b", "c"], generator=generator()) == (5, 5)


def test_the_order_of_rows_and_the_names_of_questions_change_nothing():
    values, questions = [1.0, 2.0, 3.0, 9.0], ["a", "a", "b", "c"]
    straight = bootstrap_interval(values, questions, generator=generator())
    assert straight == bootstrap_interval([2.0, 1.0, 3.0, 9.0], [81, 81, 82, 83], generator=generator())


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    values, questions = np.arange(20.0) ** 2, np.arange(20)
    first, again, other = (mean_estimate(values, questions, seed=seed, resamples=500) for seed in (0, 0, 1))
    assert first == again
    assert first.interval != other.interval
    assert (first.value, first.n) == (pytest.approx(123.5), 20)


def test_nothing_to_average_is_said_with_none():
    estimate = mean_estimate([], [], seed=0)
    assert (estimate.value, estimate.interval, estimate.n) == (None, None, 0)


def test_a_large_draw_is_made_in_pieces_of_bounded_memory():
    values = np.arange(3000.0)
    low, high = bootstrap_interval(values, np.arange(3000), generator=generator(), resamples=2000)
    half = 1.96 * values.std() / math.sqrt(3000)
    assert (low, high) == pytest.approx((1499.5 - half, 1499.5 + half), rel=0.01)


def test_a_difference_draws_the_same_questions_for_both_sides():
    # ours is theirs plus one on each question: whatever is drawn, the difference is one
    theirs = generator().normal(size=50)
    assert bootstrap_difference(
        theirs + 1, range(50), theirs[::-1], range(49, -1, -1), generator=generator()
    ) == pytest.approx((1, 1))


def test_a_difference_lives_with_questions_that_one_side_lacks():
    low, high = bootstrap_difference([1.0, 2.0, 3.0], "abc", [1.0, 2.0], "cd", generator=generator(), resamples=500)
    assert -1 <= low < 0.5 < high <= 2


def test_t_covers_the_truth_as_often_as_it_says():
    draws = generator().normal(3, 2, size=(4000, 5))
    covered = sum(low <= 3 <= high for low, high in map(t_interval, draws))
    assert not outside_chance(covered, 4000)


def scores_of_two_turns(noise, trials=600, questions=80):
    """Two turns of each question that share the question's difficulty; the truth is 6."""
    difficulty = noise.normal(6, 2, size=(trials, questions, 1))
    return (difficulty + noise.normal(0, 0.7, size=(trials, questions, 2))).reshape(trials, -1)


def test_bootstrap_over_questions_covers_the_truth_and_over_rows_does_not():
    names, noise = np.repeat(np.arange(80), 2), generator()
    trials = scores_of_two_turns(noise)
    of_questions, of_rows = 0, 0
    for scores in trials:
        low, high = bootstrap_interval(scores, names, generator=noise, resamples=500)
        of_questions += low <= 6 <= high
        low, high = bootstrap_interval(scores, np.arange(160), generator=noise, resamples=500)
        of_rows += low <= 6 <= high
    # The percentile interval of 80 questions is narrower than t's by sqrt(79 / 80) and 1.96 / 1.99: 94.4 %.
    assert not outside_chance(of_questions, len(trials), truth=0.944)
    assert of_rows / len(trials) < 0.88
