"""A planted liking for length comes back; a model's own strength does not pass for it."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, xlogy

from zephyr_lab.scoring.length_bias import length_bias


def planted(slope: float, *, rows: int = 4000, seed: int = 0):
    """Three models of unlike strength, the strongest of which writes most."""
    rng = np.random.default_rng(seed)
    models = np.repeat(["weak", "middle", "strong"], rows // 3)
    strength = np.repeat([-1.0, 0.0, 1.0], rows // 3)
    differences = 40 * rng.normal(size=len(models)) + 30 * strength
    z = differences / differences.std(ddof=1)
    wins = (rng.random(len(models)) < expit(strength + slope * z)).astype(float)
    instructions = np.tile(np.arange(rows // 3), 3)
    return wins, differences, list(models), list(instructions)


def test_the_fit_is_the_maximum_of_the_likelihood():
    wins, differences, models, instructions = planted(0.7, rows=300)
    z = differences / differences.std(ddof=1)
    places = np.unique(models, return_inverse=True)[1]

    def height(weights):
        p = expit(weights[0] * z + weights[1 + places])
        return -(xlogy(wins, p) + xlogy(1 - wins, 1 - p)).sum() + 0.5 * weights @ weights / 30**2

    found = length_bias(wins, differences, models, instructions)
    assert found.log_odds == pytest.approx(minimize(height, np.zeros(4), tol=1e-12).x[0], abs=1e-4)


@pytest.mark.parametrize("slope", [0.0, 0.5, -0.5])
def test_a_planted_slope_lies_in_its_interval_although_strong_models_write_more(slope):
    found = length_bias(*planted(slope), generator=np.random.default_rng(1), resamples=200)
    assert found.interval.low < slope < found.interval.high
    assert found.interval.high - found.interval.low < 0.5


def test_a_liking_for_short_answers_has_the_other_sign():
    wins, differences, models, instructions = planted(0.8)
    mirrored = length_bias(wins, -differences, models, instructions)
    assert mirrored.log_odds == pytest.approx(-length_bias(wins, differences, models, instructions).log_odds)


def test_the_unit_of_length_does_not_matter():
    wins, differences, models, instructions = planted(0.5, rows=900)
    in_words = length_bias(wins, differences / 6, models, instructions)
    assert in_words.log_odds == pytest.approx(length_bias(wins, differences, models, instructions).log_odds)
    assert in_words.unit == pytest.approx(differences.std(ddof=1) / 6)


def test_the_same_generator_gives_the_same_interval():
    rows = planted(0.5, rows=600)
    first, second = (length_bias(*rows, generator=np.random.default_rng(3), resamples=50) for _ in range(2))
    assert first == second


def test_a_model_that_wins_everything_leaves_the_slope_finite():
    wins, differences, models, instructions = planted(0.5, rows=900)
    wins[:300] = 1.0
    assert np.isfinite(length_bias(wins, differences, models, instructions).log_odds)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"wins": [1.0, 2.0]}, "from 0"),
        ({"wins": [1.0]}, "1 wins, 2 differences"),
        ({"differences": [3.0, float("nan")]}, "finite"),
        ({"differences": [3.0, 3.0]}, "nothing to fit"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, why):
    rows = {"wins": [1.0, 0.0], "differences": [1.0, 2.0], "models": ["a", "a"], "instructions": [1, 2]} | change
    with pytest.raises(ValueError, match=why):
        length_bias(**rows)


@pytest.mark.parametrize(("wins", "instructions"), [([1.0] * 4, list("abcd")), ([1.0, 0.0, 0.0, 1.0], list("aaaa"))])
def test_where_no_draw_differs_there_is_no_interval(wins, instructions):
    differences = [1.0, 2.0, -3.0, 5.0]
    found = length_bias(wins, differences, ["m"] * 4, instructions, generator=np.random.default_rng(0), resamples=20)
    assert found.interval is None
