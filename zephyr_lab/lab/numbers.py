"""Numbers of a data study as lines of the tidy frame: shares with Wilson's interval, means with Student's t.

These studies count rows that were drawn or released; no model is trained, so chance is in the rows alone.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from zephyr_lab.data.filters_quality import wilson_interval
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.intervals import Estimate, Interval, all_equal, t_estimate

WORLD = "embedded world"
_Z = 1.959963984540054  # 97.5 % point of the normal distribution


class Known(NamedTuple):
    """A figure that must come out exactly, in the order of `check.exact`'s arguments."""

    what: str
    got: Any
    expected: Any
    tolerance: float | int


def share(row: str, metric: str, successes: int, trials: int, *, of: str, source: str = WORLD) -> dict[str, Any]:
    """`successes` of `trials` in percent; `of` names what was counted. Raises ValueError without a trial."""
    interval = wilson_interval(successes, trials)
    if interval is None:
        raise ValueError(f"{metric} of {row}: a share needs at least one of the {of}")
    ends = Interval(*(100 * end for end in interval))
    return _line(row, metric, Estimate(100 * successes / trials, ends, trials, "Wilson 95 %", of=of), source)


def mean(row: str, metric: str, values: ArrayLike, *, of: str, source: str = WORLD) -> dict[str, Any]:
    """The mean of independent values; equal ones have no interval, and the line says so. Raises ValueError for fewer
    than two: one number alone has no interval either."""
    if len(values) < 2:
        raise ValueError(f"{metric} of {row}: a mean needs at least two of the {of}, got {len(values)}")
    return _line(row, metric, t_estimate(np.asarray(values, dtype=float), of=of), source)


def correlation(
    row: str, metric: str, ours: ArrayLike, theirs: ArrayLike, *, of: str, source: str = WORLD
) -> dict[str, Any]:
    """Pearson's correlation with the interval of Fisher's z; a perfect one has no interval, and the line says so.

    Raises ValueError for fewer than four pairs, or where one side never varies.
    """
    if len(ours) != len(theirs) or len(ours) < 4:
        raise ValueError(f"{metric} of {row}: needs pairs, at least four, got {len(ours)} and {len(theirs)} {of}")
    if min(np.ptp(ours), np.ptp(theirs)) == 0:
        raise ValueError(f"{metric} of {row}: a side that never varies has no correlation")
    value = float(np.clip(np.corrcoef(ours, theirs)[0, 1], -1.0, 1.0))
    low, high, method = value, value, "all on one line, no interval"
    if not all_equal([abs(value), 1.0]):  # atanh(1) is infinite, and no sample can tell 1 from almost 1
        z, half = math.atanh(value), _Z / math.sqrt(len(ours) - 3)
        low, high, method = min(math.tanh(z - half), value), max(math.tanh(z + half), value), "Fisher z 95 %"
    return _line(row, metric, Estimate(value, Interval(low, high), len(ours), method, of=of), source)


def _line(row: str, metric: str, number: Estimate, source: str) -> dict[str, Any]:
    return tables.line(row, metric, "recomputed", number, source=source)
