"""How much a judge likes length: log-odds of a win for one standard deviation more of length, one intercept a model.

    logit p(row) = c[model] + b z        z: length less the baseline's, over its standard deviation in all rows

The intercepts take up that a better model may also write more; what is left is within a model. It is no proof of
bias: a longer answer of the same model may be the better one. `lab.zephyr.pair_judging` shows both cases with a
known judge.
"""

from collections.abc import Collection, Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from zephyr_lab.scoring.intervals import CONFIDENCE, Interval, all_equal, numbered

# A wide normal prior (sd 30 in log-odds) on intercepts and slope: finite where a model wins or loses every row.
_PENALTY = 1 / 30**2
_STEPS, _RESTEPS = 50, 6
_SMALL = 1e-9


@dataclass(frozen=True, slots=True)
class LengthBias:
    """`log_odds`, b above, with its interval where one was asked for; `unit`: the standard deviation that z is in."""

    log_odds: float
    interval: Interval | None
    unit: float
    n: int


def length_bias(
    wins: ArrayLike,
    differences: ArrayLike,
    models: Collection[Hashable],
    instructions: Collection[Hashable],
    *,
    generator: np.random.Generator | None = None,
    resamples: int = 1000,
) -> LengthBias:
    """The fit over rows with `wins` in [0, 1] and `differences` in length, (row,) each.

    With a `generator`, the interval is the bootstrap's over whole instructions: all models' rows of one are drawn
    together; None for a single instruction, and where no win differs from another, which leaves nothing to draw.
    Raises ValueError for columns of unlike lengths, a win outside [0, 1], a number that is not finite, or lengths
    that never differ.
    """
    wins, differences = np.asarray(wins, dtype=float), np.asarray(differences, dtype=float)
    if not len(wins) == len(differences) == len(models) == len(instructions):
        counts = f"{len(differences)} differences, {len(models)} models, {len(instructions)} instructions"
        raise ValueError(f"each row needs all four, got {len(wins)} wins, {counts}")
    if not (np.isfinite(wins).all() and np.isfinite(differences).all()) or ((wins < 0) | (wins > 1)).any():
        raise ValueError("wins must be from 0 (baseline) to 1 (model), differences finite")
    if len(wins) < 2 or np.ptp(differences) == 0:
        raise ValueError("every answer differs from the baseline's by the same length: nothing to fit")
    unit = float(differences.std(ddof=1))
    rows = _Rows(wins, differences / unit, numbered(models), numbered(instructions))
    start = _fit(rows, np.ones(len(wins)), np.zeros(rows.models.max() + 2), _STEPS)
    count = rows.instructions.max() + 1
    if generator is None or count < 2 or all_equal(wins):
        return LengthBias(float(start[0]), None, unit, len(wins))
    slopes = np.empty(resamples)
    for draw in range(resamples):
        times = np.bincount(generator.integers(count, size=count), minlength=count)
        slopes[draw] = _fit(rows, times[rows.instructions].astype(float), start, _RESTEPS)[0]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(slopes, [tail, 100 - tail])
    return LengthBias(float(start[0]), Interval(float(low), float(high)), unit, len(wins))


@dataclass(frozen=True, slots=True)
class _Rows:
    wins: np.ndarray
    z: np.ndarray
    models: np.ndarray
    instructions: np.ndarray


def _fit(rows: _Rows, weights: np.ndarray, start: np.ndarray, steps: int) -> np.ndarray:
    """Slope first, then an intercept a model: Newton's method on the penalised log-likelihood of weighted rows.

    The information matrix is an arrow (intercepts do not meet each other), so a step costs one pass over the rows.
    Steps are cut to 2 in log-odds, which keeps the first ones from overshooting.
    """
    at = start.copy()
    models = len(at) - 1
    for _ in range(steps):
        p = expit(at[0] * rows.z + at[1 + rows.models])
        residual, curvature = weights * (rows.wins - p), weights * p * (1 - p)
        slope_gradient = residual @ rows.z - _PENALTY * at[0]
        gradients = np.bincount(rows.models, residual, models) - _PENALTY * at[1:]
        shaft = np.bincount(rows.models, curvature, models) + _PENALTY
        head = curvature @ rows.z**2 + _PENALTY
        edge = np.bincount(rows.models, curvature * rows.z, models)
        slope = (slope_gradient - edge @ (gradients / shaft)) / (head - edge @ (edge / shaft))
        step = np.clip(np.concatenate([[slope], (gradients - edge * slope) / shaft]), -2, 2)
        at = at + step
        if np.abs(step).max() < _SMALL:
            break
    return at
