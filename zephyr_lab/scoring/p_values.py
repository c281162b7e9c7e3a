"""p-values of estimates, from the distribution that their interval was made with, and Holm's for many of them.

Two-sided p is below 0.05 exactly where the 95 % interval leaves the value out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, bdtrc, fdtr, fdtrc, ndtr, stdtrit

from zephyr_lab.scoring.intervals import EXACT, TAIL, Estimate, T
from zephyr_lab.scoring.mean_squares import MeanSquares
from zephyr_lab.scoring.spread import F

_Z = 1.959963984540054  # 97.5 % point of the normal distribution


class Chances(NamedTuple):
    """Probabilities of a value as high as this one or higher, and as low or lower, were the true value another one."""

    as_high: float
    as_low: float


def chances(estimate: Estimate, at: float) -> Chances | None:
    """How likely a value as far from `at` as the estimate's is, were `at` the true value; None where no chance is in it
    (a count, equal values, no interval).

    Student's t and the two-way interval, Clopper and Pearson's, and F have their own distributions; any other interval
    (a bootstrap) is read as a normal one, on the side of `at`.
    """
    if estimate.interval is None or not estimate.spread:
        return None
    squares = mean_squares_of(estimate)
    if squares is not None:
        above = squares.chance_beyond(estimate.value - at)
        return Chances(above, 1 - above)
    if estimate.method == EXACT:
        return _of_share(round(estimate.value * estimate.n), estimate.n, min(1.0, max(0.0, at)))
    if estimate.method == F:
        ours, theirs, ratio = estimate.seeds - 1, estimate.n - estimate.seeds - 1, np.exp(estimate.value - at)
        return Chances(float(fdtrc(ours, theirs, ratio)), float(fdtr(ours, theirs, ratio)))
    low, high = estimate.interval
    side = estimate.value - low if estimate.value > at else high - estimate.value
    z = _Z * (estimate.value - at) / side if side else np.inf * np.sign(estimate.value - at)
    return Chances(float(ndtr(-z)), float(ndtr(z)))


def mean_squares_of(estimate: Estimate) -> MeanSquares | None:
    """What an estimate varies by: its own, or of a t interval read back from its width; None for other intervals."""
    if estimate.squares is not None or estimate.method != T or estimate.interval is None:
        return estimate.squares
    count = estimate.seeds or estimate.n
    error = estimate.spread / 2 / float(stdtrit(count - 1, TAIL))
    return MeanSquares(count, 1, count * error**2)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979), in the order of `values`: a test whose own is below 0.05 stands with all others.

    The chance that any of those tests is wrong is then at most 5 %, however they depend on one another.
    """
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted


def _of_share(successes: int, trials: int, share: float) -> Chances:
    as_high = 1.0 if successes == 0 else float(bdtrc(successes - 1, trials, share))
    return Chances(as_high, float(bdtr(successes, trials, share)))
