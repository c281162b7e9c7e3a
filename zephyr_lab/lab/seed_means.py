"""Numbers that a trained stage reports once a seed, as lines of the tidy frame and of curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from zephyr_lab.reporting import tables
from zephyr_lab.scoring.intervals import Estimate, Interval, t_estimate, t_interval
from zephyr_lab.scoring.spread import standard_deviation

SOURCE = "embedded world"


def number(row: str, metric: str, values: Sequence[float], *, n: int, source: str = SOURCE) -> list[dict[str, Any]]:
    """One line: the mean of `values`, one a seed, with its t interval; n: what each value is a mean over.

    No line for one seed, which has no interval: a number of ours is never shown without one. Equal values have no
    spread to make an interval of: the line says so, and its ends are the value.
    """
    if len(values) < 2:
        return []
    seeds = len(values)
    return [_line(row, metric, t_estimate(values, of=f"{seeds} seeds", n=n, seeds=seeds), source)]


def effect(claim: str, metric: str, values: Sequence[float], *, n: int) -> dict[str, Any]:
    """One part of a claim for `check.claims`; one seed has no interval, so the verdict stays open.

    A value that is the same under every seed decides as a count does: its ends are itself.
    """
    if len(values) > 1:
        return number(claim, metric, values, n=n)[0]
    return _line(claim, metric, Estimate(values[0], None, n, "one seed, no interval", seeds=1), SOURCE)


def count(claim: str, metric: str, value: float, *, n: int, seeds: int) -> dict[str, Any]:
    """A count as one part of a claim: no chance is in it, so its interval is itself."""
    return _line(claim, metric, Estimate(value, Interval(value, value), n, "a count", seeds), SOURCE)


def deviation(row: str, metric: str, values: Sequence[float], *, source: str = SOURCE) -> list[dict[str, Any]]:
    """One line: the standard deviation of `values`, one a seed, with its chi-square interval; none for one seed or for
    equal values."""
    spread = standard_deviation(values, of="seeds")
    return [] if spread is None else [_line(row, metric, spread, source)]


def _line(row: str, metric: str, number: Estimate, source: str) -> dict[str, Any]:
    return tables.line(row, metric, "retrained", number, source=source)


def curve(series: str, x: ArrayLike, by_seed: Sequence[ArrayLike], *, kind: str) -> pd.DataFrame:
    """A line for `figures.curves`: the mean over seeds at each x, with t intervals where there are several seeds.

    Points that some seed lacks are left out at the end; where all seeds are equal (a common start) the band closes.
    """
    seeds = [np.asarray(values, dtype=float) for values in by_seed]
    length = min(map(len, seeds))
    values = np.stack([one[:length] for one in seeds])
    low, high = zip(*(band(column) for column in values.T), strict=True)
    columns = {"x": np.asarray(x)[:length], "y": values.mean(axis=0), "low": low, "high": high}
    interval = f"{len(seeds)} seeds, t 95 %" if len(seeds) > 1 else None
    return pd.DataFrame({"series": series, "kind": kind, **columns, "interval": interval})


def part_mean(log: pd.DataFrame, column: str, *, first: float = 0.0, last: float = 1.0) -> float:
    """Mean of the logged `column` over the share of the run from `first` to `last`; at least one log on either side."""
    values = log[column].dropna().to_numpy(float)
    start = min(int(np.floor(first * len(values))), len(values) - 1)
    return float(values[start : max(int(np.ceil(last * len(values))), start + 1)].mean())


def band(values: np.ndarray) -> tuple[float, float]:
    """The ends of a curve's band at one point: the t interval, closed where all seeds are equal, NaN for one seed."""
    if len(values) < 2:
        return np.nan, np.nan
    return t_interval(values) or (float(values.mean()), float(values.mean()))
