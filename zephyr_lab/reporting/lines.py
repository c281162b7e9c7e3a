"""Curves over steps or epochs, and straight lines through published points."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from zephyr_lab.reporting.picture import Picture
from zephyr_lab.reporting.style import NARROW, Look, looks


class _End(NamedTuple):
    """The last point of a line, and what it is called and looks like."""

    x: float
    y: float
    name: str
    look: Look
    quoted: bool


def curves(frame: pd.DataFrame, *, x_label: str, y_label: str, ax: Axes | None = None) -> Figure:
    """Lines over x, one a series: columns series, kind, x, y and, where there is an interval, low, high and interval.

    Ours solid with filled markers and a band for the interval, published dashed with hollow ones, in the hue of its
    series. Each line is named at its end, by its series or, where there is one, by its name in the column label; below
    the x label stands of what the bands are. A line that a later one covers is drawn wider, so that both are seen.
    Draws on `ax`, or on a new figure of one column's width.
    """
    if ax is None:
        ax = Picture(figsize=(NARROW, 2.6), layout="constrained").subplots()
    styles = looks(frame["series"])
    ends = []
    parts = [(str(series), kind, part) for (series, kind), part in frame.groupby(["series", "kind"], sort=False)]
    for (series, kind, part), cover in zip(parts, _covers([part for _, _, part in parts]), strict=True):
        look, quoted = styles[series], kind == "quoted"
        ax.plot(
            part["x"],
            part["y"],
            color=look.colour,
            linestyle=(0, (4, 1.5)) if quoted else "-",
            marker=look.marker,
            markerfacecolor="white" if quoted else look.colour,
            markevery=max(1, len(part) // 8),
            linewidth=1.2 + 2.0 * cover,
            markersize=rcParams["lines.markersize"] + 3.0 * cover,
        )
        if {"low", "high"} <= set(part.columns) and part["low"].notna().any():
            ax.fill_between(part["x"], part["low"], part["high"], color=look.colour, alpha=0.18, linewidth=0)
        label = series if "label" not in part or part["label"].isna().all() else part["label"].iloc[0]
        ends.append(_End(float(part["x"].iloc[-1]), float(part["y"].iloc[-1]), str(label), look, quoted))
    _finish(ax, x_label + _of_what(frame), y_label)
    if (frame["x"] % 1 == 0).all():
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # no half epochs where none was measured
    _name_ends(ax, ends)
    return ax.figure


def fits(
    points: pd.DataFrame, lines: Mapping[str, tuple[float, float]], *, x_label: str, y_label: str, ax: Axes
) -> Figure:
    """Published points (columns series, x, y), hollow, and a solid line of ours through each series.

    `lines` gives intercept and slope by series; the slope is named beside the line.
    """
    styles = looks(points["series"])
    for series, part in points.groupby("series", sort=False):
        look = styles[str(series)]
        intercept, slope = lines[str(series)]
        ends = np.array([part["x"].min(), part["x"].max()])
        ax.plot(ends, intercept + slope * ends, color=look.colour, linewidth=1.0, zorder=2)
        ax.scatter(part["x"], part["y"], s=16, marker=look.marker, facecolors="white", edgecolors=look.colour, zorder=3)
        middle = ends.mean()
        ax.annotate(
            f"{series}\nslope {slope:.4f}",
            (middle, intercept + slope * middle),
            xytext=(10, -6),  # to the lower right: a rising line leaves that side free
            textcoords="offset points",
            fontsize=7.5,
            va="top",
        )
    _finish(ax, x_label, y_label)
    return ax.figure


def _of_what(frame: pd.DataFrame) -> str:
    """A line below the x label that names the intervals drawn as bands; nothing where none is named."""
    named = list(dict.fromkeys(frame["interval"].dropna())) if "interval" in frame else []
    return f"\nband: {'; '.join(named)}" if named else ""


def _finish(ax: Axes, x_label: str, y_label: str) -> None:
    """Axis labels and a faint grid, behind the data."""
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.grid(color="0.93", linewidth=0.6)
    ax.set_axisbelow(True)


def _covers(parts: Sequence[pd.DataFrame]) -> list[int]:
    """How many later lines lie on each line: at the same x, nowhere farther than a fiftieth of the whole height."""
    height = max(part["y"].max() for part in parts) - min(part["y"].min() for part in parts)

    def on(below: pd.DataFrame, above: pd.DataFrame) -> bool:
        x, y = (np.asarray(below[name], dtype=float) for name in "xy")
        other_x, other_y = (np.asarray(above[name], dtype=float) for name in "xy")
        return len(x) > 1 and np.array_equal(x, other_x) and bool(np.abs(y - other_y).max() <= height / 50)

    return [sum(on(part, later) for later in parts[place + 1 :]) for place, part in enumerate(parts)]


def _name_ends(ax: Axes, ends: Sequence[_End]) -> None:
    """Write each line's name to the right of the last point of all, pushed apart where two would touch.

    Where a name is not at the end of its line, all names have their line's marker before them.
    """
    low, high = ax.get_ylim()
    least = (high - low) * 0.075
    right = max(end.x for end in ends)  # a name at the end of a shorter line would lie on the longer ones
    ends = sorted(ends, key=lambda end: end.y)
    heights: list[float] = []
    for end in ends:
        heights.append(max(end.y, heights[-1] + least) if heights else end.y)
    moved = any(end.x < right or height > end.y for end, height in zip(ends, heights, strict=True))
    place = offset_copy(ax.transData, fig=ax.figure, x=10, units="points")
    for end, height in zip(ends, heights, strict=True):
        if moved:
            face = "white" if end.quoted else end.look.colour
            marker = {"color": end.look.colour, "marker": end.look.marker, "markerfacecolor": face}
            ax.add_line(Line2D([right], [height], **marker, markersize=4, transform=place, clip_on=False))
        ax.annotate(
            end.name,
            (right, height),
            xytext=(16 if moved else 6, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
        )
