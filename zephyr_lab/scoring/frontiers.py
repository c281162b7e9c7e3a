"""Reward against KL: curves of several methods compared where all of them have been.

A method gives some points (KL, score), one for each policy it leaves; the start is (0, its own score). Between points
the curve is taken as straight, beyond the last one nothing is said.
"""

import numpy as np
from numpy.typing import ArrayLike


def curve(kl: ArrayLike, score: ArrayLike, *, start: float) -> tuple[np.ndarray, np.ndarray]:
    """The points by rising KL, the start (0, `start`) first: two arrays. Of points at one KL the mean score counts.

    Raises ValueError for a negative or infinite KL, or lists of two lengths.
    """
    x, y = np.asarray(kl, dtype=float), np.asarray(score, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"kl and score must be lists of one length, got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x >= 0).all()):
        raise ValueError("kl must be finite and not negative, and score finite")
    x, y = np.append(0.0, x), np.append(float(start), y)
    distinct = np.unique(x)
    return distinct, np.array([y[x == one].mean() for one in distinct])


def common_support(curves: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The largest KL that every curve reaches. Raises ValueError for no curve."""
    if not curves:
        raise ValueError("no curve, no common support")
    return float(min(x[-1] for x, _ in curves))


def score_at(points: tuple[np.ndarray, np.ndarray], kl: float) -> float:
    """The score of a curve at `kl`. Raises ValueError beyond its last point: nothing is known there."""
    x, y = points
    if not 0 <= kl <= x[-1]:
        raise ValueError(f"kl must be from 0 to {x[-1]:g}, where the curve ends, got {kl:g}")
    return float(np.interp(kl, x, y))


def mean_score(points: tuple[np.ndarray, np.ndarray], up_to: float) -> float:
    """The mean score of a curve over KL from 0 to `up_to`: the area under it, divided by its width.

    Two curves differ in it by the area between them. Raises ValueError beyond the last point, or for a width of 0.
    """
    x, y = points
    if not 0 < up_to <= x[-1]:
        raise ValueError(f"up_to must be above 0 and at most {x[-1]:g}, where the curve ends, got {up_to:g}")
    inside = x < up_to
    edges = np.append(x[inside], up_to)
    heights = np.append(y[inside], np.interp(up_to, x, y))
    return float(np.trapezoid(heights, edges) / up_to)
