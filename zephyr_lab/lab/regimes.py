"""Regime maps: the effect of a comparison over the knob that decides it, as lines, as a picture, and in a sentence.

One verdict is about one setting. A map says at which settings the same comparison pays: `placed` puts differences
(`Answers.differences`) at the values of a knob, `picture` draws them, `sentences` says where they lie beyond a margin.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from zephyr_lab.reporting import figures
from zephyr_lab.reporting.style import GREY, Picture

MARGIN = 0.1  # points of a score from 1 to 10: the general margin of papers/*/claims.toml
BAND = "0.86"  # grey of the margin
COLUMNS = ("series", "kind", "x", "y", "low", "high", "n", "seeds", "interval")


class Published(NamedTuple):
    """An effect in print, at `x` of the knob; None where the text does not say where it would stand."""

    y: float | int
    label: str
    x: float | int | None = None


def placed(
    differences: pd.DataFrame, at: Mapping[str, float | int], *, series: Mapping[str, str] | str
) -> pd.DataFrame:
    """Lines as `figures.curves` draws them (columns `COLUMNS`): each row of a tidy frame at its value of the knob.

    at: the value of each row. series: the name of the line, or by metric the name of each; other metrics are left out.
    Points of a line stand in the order of the knob. Raises ValueError for a row without a value.
    """
    lost = [row for row in differences["row"] if row not in at]
    if lost:
        raise ValueError(f"no value of the knob for {lost[0]!r}; there are {', '.join(map(repr, at))}")
    named = differences["metric"].map(dict(series)) if isinstance(series, Mapping) else series
    lines = differences.assign(series=named, x=differences["row"].map(dict(at)), y=differences["value"])
    lines = lines.dropna(subset=["series"])
    order = {name: place for place, name in enumerate(dict.fromkeys(lines["series"]))}
    lines = lines.sort_values(["series", "x"], key=lambda one: one.map(order) if one.name == "series" else one)
    return lines.reset_index(drop=True)[list(COLUMNS)]


def picture(
    lines: pd.DataFrame,
    *,
    x_label: str,
    y_label: str,
    margin: float | int = MARGIN,
    published: Sequence[Published] = (),
    log: bool = False,
) -> Picture:
    """One map with its legend. log: a logarithmic knob, with a tick at each of its values."""
    drawn = Picture(figsize=(4.6, 3.3), layout="constrained")
    panel(drawn.subplots(), lines, x_label=x_label, y_label=y_label, margin=margin, published=published, log=log)
    legend(drawn, margin=margin, published=published)
    return drawn


def panel(
    ax: Axes,
    lines: pd.DataFrame,
    *,
    x_label: str,
    y_label: str,
    margin: float | int = MARGIN,
    published: Sequence[Published] = (),
    log: bool = False,
) -> None:
    """Lines with their intervals as bands, 0 as a line, the margin shaded, published effects hollow and dashed."""
    if lines.empty:
        ax.text(0.5, 0.5, "no point at this profile", ha="center", va="center", color=GREY, transform=ax.transAxes)
        return
    ax.axhspan(-margin, margin, color=BAND, linewidth=0, zorder=0)
    ax.axhline(0, color="0.35", linewidth=0.8, zorder=1)
    if log:
        ax.set_xscale("log")
    for one in published:
        if one.x is None:
            ax.axhline(one.y, color=GREY, linestyle=(0, (4, 1.5)), linewidth=1.2)
        else:
            ax.plot(one.x, one.y, color=GREY, marker="D", markerfacecolor="white", linestyle="none", zorder=3)
    places = [one.x for one in published if one.x is not None]
    figures.curves(lines, x_label=x_label, y_label=y_label, ax=ax, names_at=max(places, default=None))
    if log:
        values = sorted({*lines["x"], *places})
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.minorticks_off()


def legend(drawn: Picture, *, margin: float | int = MARGIN, published: Sequence[Published] = ()) -> None:
    """What the shaded band and the grey marks are, below all panels."""
    handles: list[Any] = [Patch(color=BAND, label=f"margin, {margin:g}")] if margin else []
    for one in published:
        mark = {"linestyle": (0, (4, 1.5))} if one.x is None else {"marker": "D", "markerfacecolor": "white"}
        look = {"linestyle": "none", **mark, "color": GREY}
        handles.append(Line2D([], [], label=f"published: {one.label}", **look))  # type: ignore[arg-type]
    if handles:
        drawn.legend(handles=handles, loc="outside lower center", ncols=1 if published else 2)


def sentences(
    lines: pd.DataFrame,
    what: str,
    *,
    over: str,
    margin: float | int = MARGIN,
    up: str = "pays",
    down: str = "costs",
) -> dict[str, str]:
    """What each line says, by its subject: where on the knob its intervals lie beyond the margin, beyond 0, within.

    what: the comparison and its measure. over: the knob. up, down: words for an effect above and below 0.
    """
    said = {}
    for series, line in lines.groupby("series", sort=False):
        read = [reading(point, margin, up, down) for _, point in line.iterrows()]
        spans, start = [], 0
        for words, run in itertools.groupby(read):
            end = start + len(list(run))
            spans.append(f"{words} {_span(line.iloc[start:end], first=start == 0, last=end == len(line))}")
            start = end
        about = f"{what}, {series}, over {over}"
        said[about] = f"{about}: {'; '.join(spans)}"
    return said


def reading(point: Mapping[str, Any] | pd.Series, margin: float | int, up: str, down: str) -> str:
    """What the interval of one point says: beyond the margin, beyond 0, within or short of the margin, or nothing."""
    low, high = float(point["low"]), float(point["high"])
    if np.isnan(low) or np.isnan(high):
        return "no interval"
    by = f" by more than {margin:g}" if margin else ""
    if low > margin:
        return f"{up}{by}"
    if high < -margin:
        return f"{down}{by}"
    if low > 0 or high < 0:
        return f"{up if low > 0 else down}, by how much is open,"
    if -margin < low and high < margin:
        return f"within {margin:g} of no effect"
    return "not resolved"


def _span(part: pd.DataFrame, *, first: bool, last: bool) -> str:
    """`from 0.3 on (most +0.52 [0.31, 0.73] at 0.5)`: which values of the knob, and the effect farthest from 0."""
    ends = [f"{value:.3g}" for value in (part["x"].iloc[0], part["x"].iloc[-1])]
    most = part.loc[part["y"].abs().idxmax()]
    effect = f"{most['y']:+.2f}" + ("" if np.isnan(most["low"]) else f" [{most['low']:.2f}, {most['high']:.2f}]")
    where = f"most {effect} at {most['x']:.3g}" if len(part) > 1 else effect
    if first and last:
        at = f"at {ends[0]}" if len(part) == 1 else f"at every point tried, {ends[0]} to {ends[1]}"
    elif first:
        at = f"up to {ends[1]}"
    elif last:
        at = f"from {ends[0]} on"
    else:
        at = f"at {ends[0]}" if len(part) == 1 else f"from {ends[0]} to {ends[1]}"
    return f"{at} ({where})"
