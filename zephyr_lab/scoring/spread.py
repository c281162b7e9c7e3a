"""How much runs vary: a standard deviation and a ratio of two, with intervals, and what so few runs can resolve.

For independent, roughly normal values: chi-square for one variance, Snedecor's F for the ratio of two.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, fdtr, fdtri

from zephyr_lab.scoring.intervals import TAIL, Estimate, Interval, all_equal

CHI_SQUARE, F = "chi-square 95 %", "F 95 %"


def standard_deviation(values: ArrayLike, *, of: str = "runs") -> Estimate | None:
    """The standard deviation of `values`, with the chi-square interval; None for fewer than two, and for equal ones.

    of: what the values are ("seeds").
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or all_equal(values):
        return None
    return of_deviation(float(values.std(ddof=1)), len(values), of=of)


def of_deviation(deviation: float, runs: int, *, of: str = "runs") -> Estimate:
    """A standard deviation that is known already, of `runs` values (at least 2), with the chi-square interval."""
    if deviation < 0 or runs < 2:
        raise ValueError(f"a standard deviation is not negative and of two values or more, got {deviation} of {runs}")
    freedom = runs - 1
    # chdtri gives the point that is exceeded with the probability asked for
    low, high = (deviation * float(np.sqrt(freedom / chdtri(freedom, beyond))) for beyond in (TAIL, 1 - TAIL))
    return Estimate(deviation, Interval(low, high), runs, CHI_SQUARE, runs if of == "seeds" else None, f"{runs} {of}")


def log_variance_ratio(ours: ArrayLike, theirs: ArrayLike) -> Estimate | None:
    """ln(variance of `ours` / variance of `theirs`), with the F interval.

    None for fewer than two values on a side, or where a side does not vary at all.
    """
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if min(len(ours), len(theirs)) < 2 or all_equal(ours) or all_equal(theirs):
        return None
    value = float(np.log(float(ours.var(ddof=1)) / float(theirs.var(ddof=1))))
    low, high = (value - float(np.log(fdtri(len(ours) - 1, len(theirs) - 1, share))) for share in (1 - TAIL, TAIL))
    return Estimate(value, Interval(low, high), len(ours) + len(theirs), F, len(ours), f"{len(ours)} seeds")


def power(ratio: float, ours: int, theirs: int) -> float:
    """Probability that the interval of `log_variance_ratio` lies below 0, for a true `ratio` of variances.

    ours, theirs: numbers of runs. Raises ValueError for a ratio that is not positive or fewer than two runs.
    """
    if ratio <= 0 or min(ours, theirs) < 2:
        raise ValueError(f"ratio must be positive and runs at least 2, got {ratio} and {ours} and {theirs} runs")
    critical = fdtri(ours - 1, theirs - 1, TAIL)  # the measured ratio must fall below it
    return float(fdtr(ours - 1, theirs - 1, critical / ratio))
