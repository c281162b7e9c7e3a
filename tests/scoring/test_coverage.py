"""Every kind of interval on simulated data, with seeds, questions and variances as they are here: it covers 95 %.

A sample of a grid is drawn by its mean squares, which are independent chi-squares for normal data; grids of judged
scores are drawn whole.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, stdtrit

from zephyr_lab.scoring.intervals import TAIL
from zephyr_lab.scoring.mean_squares import MeanSquares
from zephyr_lab.scoring.spread import log_variance_ratio
from zephyr_lab.scoring.two_way import two_way_estimate

DRAWS = 40_000  # a share of 0.95 then has a standard error of 0.001
SEEDS = (3, 5)
# Variances of seeds and of questions, that of the rest as the unit.
VARIANCES = (
    (0.0, 0.0, 1.0),
    (0.0, 0.5, 1.0),
    (0.02, 0.0, 1.0),
    (0.3, 1.0, 1.0),
)


def grids(seeds, questions, of_seeds, of_questions, rest, *, draws=DRAWS, seed=0):
    """Errors of the means of normal grids whose true mean is 0, and their mean squares, one of each a draw."""
    draw = np.random.default_rng(seed)
    error = np.sqrt(of_seeds / seeds + of_questions / questions + rest / (seeds * questions))

    def square(expected, freedom):
        return expected * draw.chisquare(freedom, draws) / freedom

    squares = MeanSquares(
        seeds,
        questions,
        square(questions * of_seeds + rest, seeds - 1),
        square(seeds * of_questions + rest, questions - 1),
        square(rest, (seeds - 1) * (questions - 1)),
    )
    return draw.normal(0, error, draws), squares


@pytest.mark.parametrize("questions", [80, 320])
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("variances", VARIANCES)
def test_two_way_intervals_cover_as_often_as_they_say(seeds, questions, variances):
    """95 % where seeds or questions alone make the error; a little more where both do, most with few seeds."""
    errors, squares = grids(seeds, questions, *variances)
    covered = np.mean(np.abs(errors) <= squares.half_width(TAIL))
    assert 0.945 < covered < (0.97 if seeds == 5 else 0.98)


def test_satterthwaites_intervals_would_cover_too_little_with_three_seeds():
    errors, squares = grids(3, 320, 0.05, 0.1, 1.0)
    shares = squares.of_seeds, squares.of_questions, squares.of_rest
    variance = np.maximum.reduce([shares[0] + shares[1] - shares[2], *shares[:2]])
    freedom = variance**2 / sum(one**2 / of for one, of in zip(shares, (2, 319, 638), strict=True))
    half = -stdtrit(freedom, TAIL) * np.sqrt(variance / (3 * 320))
    assert np.mean(np.abs(errors) <= half) < 0.94 < np.mean(np.abs(errors) <= squares.half_width(TAIL))


def test_an_interval_over_seeds_alone_misses_what_the_questions_add():
    errors, squares = grids(5, 80, 0.0, 0.5, 1.0)
    alone = MeanSquares(5, 1, squares.of_seeds / 80)  # the variance of the seeds' means
    assert np.mean(np.abs(errors) <= alone.half_width(TAIL)) < 0.85


@pytest.mark.parametrize(
    ("effect", "called", "at_most"),
    [
        (0.1, "reproduced", 0.025),  # an effect at the margin is called one beyond it no more often than stated,
        (0.1, "ruled out", 0.025),  # nor one short of it
        (0.0, "contradicted", 0.025),
    ],
)
def test_a_planted_effect_is_called_wrongly_no_more_often_than_stated(effect, called, at_most):
    errors, squares = grids(5, 320, 0.002, 0.05, 0.5)
    half = squares.half_width(TAIL)
    beyond = {
        "reproduced": effect + errors - half > 0.1,
        "ruled out": effect + errors + half < 0.1,
        "contradicted": effect + errors + half < 0,
    }
    assert np.mean(beyond[called]) < at_most + 0.003


def test_a_difference_of_judged_scores_is_covered_though_it_is_not_normal():
    """Scores of 1 to 10 in tenths, cut at the ends, of two arms to the same questions, one the better by 0.3."""
    draw, covered, times = np.random.default_rng(2), 0, 600
    true = mean_of_cut(6.8) - mean_of_cut(6.5)
    for _ in range(times):
        questions = draw.normal(0, 2, (1, 80))
        arms = [
            np.clip(np.round(level + questions + draw.normal(0, 0.1, (5, 1)) + draw.normal(0, 1.5, (5, 80)), 1), 1, 10)
            for level in (6.8, 6.5)
        ]
        low, high = two_way_estimate(pd.DataFrame(arms[0] - arms[1])).interval
        covered += low <= true <= high
    assert 0.93 < covered / times < 0.98


def test_questions_of_fixed_categories_are_covered_and_categories_are_no_chance():
    """Eight categories of ten questions, that differ by far more than questions do."""
    draw, covered, wide, times = np.random.default_rng(5), 0, 0, 600
    category = np.repeat(np.linspace(-3, 3, 8), 10)
    columns = pd.MultiIndex.from_arrays([category, range(80)])
    for _ in range(times):
        of_category = np.repeat(draw.normal(0, 0.1, (5, 8)), 10, axis=1)  # seeds differ by category too
        values = category + of_category + draw.normal(0, 0.5, (1, 80)) + draw.normal(0, 1, (5, 80))
        shown = two_way_estimate(pd.DataFrame(values, columns=columns))
        covered += shown.interval.low <= 0 <= shown.interval.high
        wide += two_way_estimate(pd.DataFrame(values)).spread > 2 * shown.spread
    assert 0.93 < covered / times < 0.98 and wide > 0.9 * times


def mean_of_cut(level):
    """The mean of such scores over all seeds and questions: a normal one, cut at 1 and 10."""
    spread = np.sqrt(2**2 + 0.1**2 + 1.5**2)
    low, high = (1 - level) / spread, (10 - level) / spread
    inside = level * (ndtr(high) - ndtr(low)) - spread * (density(high) - density(low))
    return 1 * ndtr(low) + 10 * ndtr(-high) + inside


def density(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def test_a_variance_ratio_is_covered():
    draw = np.random.default_rng(4)
    estimates = [log_variance_ratio(draw.normal(0, 1.2, 10), draw.normal(0, 1.6, 10)) for _ in range(2000)]
    true = 2 * np.log(1.2 / 1.6)
    assert 0.935 < np.mean([one.interval.low <= true <= one.interval.high for one in estimates]) < 0.965
