"""Numbers that a trained stage reports once a seed, as lines of the tidy frame and of curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from zephyr_lab.scoring.intervals import t_interval

SOURCE = "embedded world"


def number(row: str, metric: str, values: Sequence[float], *, n: int, source: str = SOURCE) -> list[dict[str, Any]]:
    """One line: the mean of `values`, one a seed, with its t interval; n: what each value is a mean over.

    No line for one seed, which has no interval: a number of ours never stands bare.
    """
    interval = t_interval(values)
    if interval is None:
        return []
    value = float(np.mean(values))
    ends = {"low": min(interval.low, value), "high": max(interval.high, value)}
    counts = {"n": n, "seeds": len(values), "interval": f"{len(values)} seeds, t 95 %"}
    return [{"row": row, "metric": metric, "kind": "retrained", "value": value, **ends, **counts, "source": source}]


def effect(claim: str, metric: str, values: Sequence[float], *, n: int) -> dict[str, Any]:
    """One part of a claim for `check.claims`; one seed has no interval, so the verdict stays open."""
    found = number(claim, metric, values, n=n)
    if found:
        return found[0]
    return {"row": claim, "metric": metric, "value": values[0], "low": None, "high": None, "n": n, "seeds": 1}


def curve(series: str, x: ArrayLike, by_seed: Sequence[ArrayLike], *, kind: str) -> pd.DataFrame:
    """A line for `figures.curves`: the mean over seeds at each x, with t intervals where there are several seeds.

    Points that some seed lacks are left out at the end.
    """
    seeds = [np.asarray(values, dtype=float) for values in by_seed]
    length = min(map(len, seeds))
    values = np.stack([one[:length] for one in seeds])
    intervals = [t_interval(column) or (np.nan, np.nan) for column in values.T]
    low, high = zip(*intervals, strict=True)
    columns = {"x": np.asarray(x)[:length], "y": values.mean(axis=0), "low": low, "high": high}
    interval = f"{len(seeds)} seeds, t 95 %" if len(seeds) > 1 else None
    return pd.DataFrame({"series": series, "kind": kind, **columns, "interval": interval})
