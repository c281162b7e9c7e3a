"""Numbers of toys as tables and lines: means over toys with intervals, and geometric means for log scales.

A number comes as a list with one value a toy. What was measured, and of which policy, the caller says.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from zephyr_lab.lab import seed_means
from zephyr_lab.reporting import tables

SOURCE = "exact toy"
FLOOR = 1e-16  # what double precision cannot distinguish from 0 counts as this on a log scale

Measured = Mapping[str, Sequence[float]]  # quantity -> a number a toy, as `teaching.toy.measured` gives it
Setting = int | float  # a step, a count, the value of a knob


def table(rows: Mapping[str, Measured], *, n: int, only: Sequence[str] = (), zero_below: float = 0.0) -> pd.DataFrame:
    """Tidy frame of what was measured: a row of it a key of `rows`, a metric a quantity, or those of `only`.

    n: what a toy's number is a mean over. What is nearer to 0 than `zero_below` is written as 0: rounding of double
    precision, which differs between machines. Empty for one toy, which has no interval.
    """
    lines = []
    for row, quantities in rows.items():
        for metric in only or quantities:
            values = [0.0 if abs(value) < zero_below else value for value in quantities[metric]]
            lines += seed_means.number(row, metric, values, n=n, source=SOURCE)
    return tables.frame(lines)


def best(trials: Mapping[Setting, Measured], quantity: str) -> Setting:
    """The trial, of some settings of one method, whose mean of `quantity` is smallest."""
    return min(trials, key=lambda trial: float(np.mean(trials[trial][quantity])))


def way(series: str, points: Mapping[Setting, ArrayLike], *, scale: float = 1.0) -> pd.DataFrame:
    """A line over the keys of `points`: means over toys with t intervals; columns series, x, y, low, high."""
    return seed_means.curve(series, list(points), list(scale * _by_toy(points)), kind="retrained")


def geometric_way(series: str, points: Mapping[Setting, ArrayLike], *, scale: float = 1.0) -> pd.DataFrame:
    """As `way` for a log scale: geometric means, t intervals of the logarithms, `FLOOR` in place of what is smaller."""
    logs = seed_means.curve(series, list(points), list(np.log(np.maximum(_by_toy(points), FLOOR))), kind="retrained")
    return logs.assign(**(scale * np.exp(logs[["y", "low", "high"]])))


def mean_points(series: str, trials: Mapping[Setting, Measured], *, x: str, y: str) -> pd.DataFrame:
    """Means over toys of two quantities, a point a setting: columns series, value (the setting), x, y."""
    return pd.DataFrame(
        {"series": series, "value": value, "x": float(np.mean(measured[x])), "y": float(np.mean(measured[y]))}
        for value, measured in trials.items()
    )


def _by_toy(points: Mapping[Setting, ArrayLike]) -> np.ndarray:
    """A row a toy, a column a point."""
    return np.array([np.asarray(values, dtype=float) for values in points.values()]).T
