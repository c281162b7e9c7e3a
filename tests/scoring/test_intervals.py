"""Intervals against worked numbers, brute force and simulated data whose truth is known."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from zephyr_lab.scoring.intervals import (
    PERCENT,
    SHARE,
    Scale,
    bootstrap_difference,
    bootstrap_interval,
    clopper_pearson,
    constant_interval,
    mean_estimate,
    paired_t_interval,
    share_estimate,
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


@pytest.mark.parametrize(
    ("values", "questions"),
    [([5.0, 5.0, 5.0], "abc"), ([0.1 + 0.2, 0.3, 0.3], "abc"), ([0.0, 1.0, 1.0, 0.0], "aabb")],
)
def test_bootstrap_of_equal_questions_has_no_interval(values, questions):
    assert bootstrap_interval(values, list(questions), generator=generator()) is None
    assert mean_estimate(values, list(questions), seed=0).method == "all equal, no interval"


def test_equal_seeds_have_no_t_interval():
    assert t_interval([3.4867188] * 5) is None
    assert t_interval([0.1 + 0.2, 0.3]) is None  # the last bit is rounding
    assert t_interval([0.3, 0.3 + 1e-9]) is not None
    assert paired_t_interval([1.5, 2.5], [1.0, 2.0]) is None


def test_thirty_wins_of_thirty():
    # Clopper-Pearson at the end has a closed form: low^30 = 0.025
    found = share_estimate([100.0] * 30, range(30), seed=0, scale=PERCENT)
    assert found.interval == pytest.approx((100 * 0.025 ** (1 / 30), 100))
    assert (found.value, found.n, found.method) == (100, 30, "Clopper-Pearson 95 %")
    lost = share_estimate([0.0] * 30, range(30), seed=0)
    assert lost.interval == pytest.approx((0, 1 - 0.025 ** (1 / 30)))


def test_a_share_next_to_an_end_is_scipys_exact_interval():
    for successes, trials in ((29, 30), (1, 40), (9, 805), (3, 5)):
        won = [1.0] * successes + [0.0] * (trials - successes)
        exact = binomtest(successes, trials).proportion_ci(0.95, method="exact")
        assert share_estimate(won, range(trials), seed=0).interval == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_a_share_away_from_the_ends_keeps_the_bits_of_its_bootstrap():
    won = [1.0] * 30 + [0.0] * 50
    plain = bootstrap_interval(won, range(80), generator=generator())
    assert share_estimate(won, range(80), seed=0).interval == plain
    assert mean_estimate(won, range(80), seed=0, scale=SHARE).interval == plain


def test_rows_of_one_question_count_once_in_the_exact_interval():
    once = share_estimate([1.0] * 12, range(12), seed=0)
    twice = share_estimate([1.0] * 24, [*range(12), *range(12)], seed=0)
    assert (once.interval, once.n, twice.n) == (twice.interval, 12, 24)


def test_equal_values_within_a_scale_leave_room_to_either_end():
    # nine of 4.9375 from 1 to 10: another value may have the probability q with (1 - q)^9 = 0.025
    unseen = 1 - 0.025 ** (1 / 9)
    found = mean_estimate([4.9375] * 9, range(9), seed=0, scale=Scale(1.0, 10.0))
    assert found.interval == pytest.approx((4.9375 - unseen * 3.9375, 4.9375 + unseen * 5.0625))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_at_an_end_of_the_scale_the_two_exact_intervals_are_one(value):
    assert constant_interval(value, 17, SHARE) == pytest.approx(clopper_pearson(17 * value, 17))


def test_what_has_no_place_on_its_scale_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1, got 0 to 2"):
        share_estimate([0.0, 2.0], "ab", seed=0)
    with pytest.raises(ValueError, match="got 3 of 2"):
        clopper_pearson(3, 2)
    with pytest.raises(ValueError, match="got 0 of 0"):
        clopper_pearson(0, 0)
    with pytest.raises(ValueError, match="from 0 to 1, got 3 of 2"):
        constant_interval(2.0, 3, SHARE)


@pytest.mark.parametrize("trials", [5, 10, 20, 30, 50, 100])
def test_a_share_near_an_end_is_covered_as_often_as_it_says(trials):
    # every count of wins is listed with its probability, so coverage is exact and not simulated
    ends = np.array([share_of(wins, trials) for wins in range(trials + 1)])
    for truth in (0.001, 0.01, 0.03, 0.05, 0.1, 0.9, 0.95, 0.97, 0.99, 0.999):
        covers = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
        coverage = binom.pmf(np.arange(trials + 1), trials, truth)[covers].sum()
        assert coverage >= 0.93, (trials, truth, coverage)


def share_of(wins, trials):
    found = share_estimate([1.0] * wins + [0.0] * (trials - wins), range(trials), seed=0, resamples=1000)
    assert found.interval.low < found.interval.high
    return found.interval


def test_weighted_wins_near_an_end_are_covered():
    # a win is worth anything from 0 to 1, mean 0.02: a hundredth is 1, the rest is about 0.01
    noise, covered = np.random.default_rng(1), 0
    for _ in range(1000):
        wins = np.where(noise.random(60) < 0.01, 1.0, noise.random(60) * 2 / 99)
        low, high = share_estimate(wins, range(60), seed=0, resamples=50).interval
        covered += low <= 0.02 <= high
    assert covered / 1000 >= 0.95


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
    # ours is theirs plus 1 or 1.5 on each question: whatever is drawn, the difference lies between
    theirs = generator().normal(size=50)
    ours = theirs + 1 + np.where(np.arange(50) < 25, 0.0, 0.5)
    low, high = bootstrap_difference(ours, range(50), theirs[::-1], range(49, -1, -1), generator=generator())
    assert 1 < low < 1.25 < high < 1.5  # the spread of theirs, 1, is not in it
    equal = bootstrap_difference(theirs + 1, range(50), theirs[::-1], range(49, -1, -1), generator=generator())
    assert equal is None


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
