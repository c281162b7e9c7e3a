"""The length-controlled win rate: planted bias is recovered, and what cannot be fitted is said."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from zephyr_lab.scoring.length_control import SLOPE_PRIOR, length_controlled_win_rate


def generator():
    return np.random.default_rng(0)


def planted(noise, rows=805, slope=1.5, quality=-0.4, shift=300):
    """Wins of a model whose answers are longer by 300 characters and whose judge likes length; with equal lengths it
    would win 100 sigmoid(quality) percent."""
    differences = np.round(noise.normal(shift, 400, size=rows))
    chance = expit(slope * np.tanh(differences / differences.std(ddof=1)) + quality)
    return (noise.random(rows) < chance).astype(float), differences


def test_a_planted_length_bias_is_recovered():
    wins, differences = planted(generator())
    fit = length_controlled_win_rate(wins, differences)
    truth = 100 * expit(-0.4)
    assert 100 * wins.mean() > truth + 10  # the raw rate is far off
    assert fit.interval.low < truth < fit.interval.high
    assert fit.value == pytest.approx(truth, abs=4)
    assert fit.slope == pytest.approx(1.5, abs=0.4)
    assert (fit.n, fit.left_out, fit.statement) == (805, 0, "")


def test_the_interval_covers_the_planted_truth_as_often_as_it_says():
    noise, truth, trials = generator(), 100 * expit(-0.4), 500
    covered = 0
    for _ in range(trials):
        low, high = length_controlled_win_rate(*planted(noise, rows=300)).interval
        covered += low <= truth <= high
    assert abs(covered / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_rows_of_one_instruction_count_as_one():
    # Every row copied four times tells nothing new: the interval over instructions stays as it was.
    wins, differences = planted(generator(), rows=400)
    once = length_controlled_win_rate(wins, differences)
    names = np.tile(np.arange(400), 4)
    copied = length_controlled_win_rate(np.tile(wins, 4), np.tile(differences, 4), names)
    assert copied.interval == pytest.approx(once.interval, abs=0.2)
    as_new_rows = length_controlled_win_rate(np.tile(wins, 4), np.tile(differences, 4))
    assert np.ptp(as_new_rows.interval) == pytest.approx(np.ptp(once.interval) / 2, rel=0.05)


def test_the_fit_is_the_maximum_that_a_general_optimiser_finds():
    noise = generator()
    wins, differences = noise.random(60), noise.normal(200, 400, size=60)
    x = np.tanh(differences / differences.std(ddof=1))

    def loss(weights):
        p = expit(weights[0] * x + weights[1])
        return -(wins * np.log(p) + (1 - wins) * np.log(1 - p)).sum() + 0.5 * (weights[0] / SLOPE_PRIOR) ** 2

    slope, intercept = minimize(loss, [0.0, 0.0], tol=1e-12).x
    fit = length_controlled_win_rate(wins, differences)
    assert (fit.slope, fit.value) == pytest.approx((slope, 100 * expit(intercept)), abs=1e-4)


def test_the_baseline_against_itself_gives_exactly_50():
    fit = length_controlled_win_rate([0.5] * 805, [0.0] * 805)
    assert fit.value == 50
    unseen = 100 * (1 - 0.025 ** (1 / 805))  # all equal: what may have gone unseen, either way
    assert fit.interval == pytest.approx((50 - unseen / 2, 50 + unseen / 2))
    assert "as long as the baseline's" in fit.statement


def test_equal_lengths_everywhere_give_the_raw_win_rate():
    fit = length_controlled_win_rate([1.0, 1.0, 1.0, 0.0], [0.0] * 4)
    assert fit.value == 75
    assert fit.interval.low < 75 < fit.interval.high


def test_a_judge_that_ignores_length_is_left_alone():
    # each length difference wins and loses alike, so the slope is zero and the rate is the raw one
    fit = length_controlled_win_rate([1.0, 0.0, 1.0, 0.0], [-50.0, -50.0, 50.0, 50.0])
    assert fit.value == pytest.approx(50)
    assert fit.slope == pytest.approx(0)


def test_the_two_sides_mirror_each_other():
    wins, differences = planted(generator(), rows=200)
    ours = length_controlled_win_rate(wins, differences)
    theirs = length_controlled_win_rate(1 - wins, -differences)
    assert ours.value + theirs.value == pytest.approx(100)
    assert ours.slope == pytest.approx(theirs.slope)


def test_the_unit_of_length_changes_nothing():
    wins, differences = planted(generator(), rows=200)
    assert length_controlled_win_rate(wins, differences / 7).value == pytest.approx(
        length_controlled_win_rate(wins, differences).value
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_separation_keeps_the_fit_finite_and_is_said(sign):
    differences = sign * np.array([-300.0, -200.0, -100.0, 100.0, 200.0, 300.0])
    fit = length_controlled_win_rate([0, 0, 0, 1, 1, 1], differences)
    assert fit.value == pytest.approx(50)
    assert fit.slope * sign > 1
    assert abs(fit.slope) < 5 * SLOPE_PRIOR
    assert fit.interval is None
    assert "length alone decides" in fit.statement


@pytest.mark.parametrize(
    ("win", "value", "who"), [(1.0, 100, "model"), (0.0, 0, "baseline"), (1 - 1e-15, 100, "model")]
)
def test_a_model_that_wins_or_loses_every_row_has_the_end_of_the_scale(win, value, who):
    fit = length_controlled_win_rate([win] * 5, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert (fit.value, fit.interval) == (value, None)
    assert fit.statement == f"the {who} wins every row"


def test_one_constant_difference_cannot_be_controlled():
    fit = length_controlled_win_rate([1.0, 0.0, 1.0], [70.0, 70.0, 70.0])
    assert (fit.value, fit.interval) == (None, None)
    assert "differs by 70 characters" in fit.statement


@pytest.mark.parametrize(("wins", "differences"), [([], []), ([1.0], [5.0]), ([1.0, 0.0], [math.nan, 5.0])])
def test_too_few_rows_are_said(wins, differences):
    fit = length_controlled_win_rate(wins, differences)
    assert (fit.value, fit.interval, fit.statement) == (None, None, "fewer than two rows with both lengths")


def test_rows_without_lengths_are_left_out_and_counted():
    wins, differences = planted(generator(), rows=100)
    fit = length_controlled_win_rate([*wins, 1.0, math.nan], [*differences, math.nan, 5.0])
    assert fit.value == length_controlled_win_rate(wins, differences).value
    assert (fit.n, fit.left_out) == (100, 2)


def test_a_model_that_is_never_as_short_as_the_baseline_is_marked_as_extrapolated():
    wins, differences = planted(generator(), shift=1500)
    assert length_controlled_win_rate(wins, differences).statement.startswith("extrapolated: ")


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="0 \\(baseline\\) to 1"):
        length_controlled_win_rate([2.0, 1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="got 2 wins, 1 differences"):
        length_controlled_win_rate([0.0, 1.0], [1.0])


def test_no_table_of_wins_and_lengths_breaks_the_fit():
    noise = generator()
    weights = np.array([0.0, 2.3e-16, 1e-12, 1e-6, 0.25, 0.5, 0.75, 1 - 1e-6, 1 - 1e-12, 1 - 2.3e-16, 1.0])
    for _ in range(500):
        rows = noise.integers(1, 12)
        wins = noise.choice(noise.choice(weights, size=noise.integers(1, 4)), size=rows)
        differences = noise.choice([-1e6, -3.0, -1.0, 0.0, 1.0, 2.0, 1e6], size=rows)
        fit = length_controlled_win_rate(wins, differences)
        if fit.value is not None:
            assert 0 <= fit.value <= 100
        if fit.interval is not None:
            assert fit.interval.low <= fit.value + 1e-9
            assert fit.value <= fit.interval.high + 1e-9


@pytest.mark.parametrize("differences", [[0.0] * 30, [float(place - 15) for place in range(30)]])
def test_draws_alone_are_no_certainty(differences):
    fit = length_controlled_win_rate([0.5] * 30, differences)
    unseen = 100 * (1 - 0.025 ** (1 / 30))
    assert fit.value == pytest.approx(50)
    assert fit.interval == pytest.approx((50 - unseen / 2, 50 + unseen / 2))


def test_wins_at_equal_lengths_have_the_exact_interval():
    fit = length_controlled_win_rate([1.0] * 30, [0.0] * 30)
    assert fit.interval == pytest.approx((100 * 0.025 ** (1 / 30), 100))


@pytest.mark.parametrize("differences", [[0.0] * 4, [1.0, -2.0, 3.0, 5.0]])
def test_one_instruction_has_no_interval(differences):
    fit = length_controlled_win_rate([1.0, 0.0, 0.5, 1.0], differences, ["q"] * 4)
    assert fit.interval is None
    assert "one instruction alone has no interval" in fit.statement
