"""Figures of tidy score frames, and their files: same data, same bytes.

Each drawing function returns a Picture, a matplotlib Figure of its own; a notebook shows it by naming it last.
Error bars come from the frame (low, high), never from a plotting library, and the legend says of what they are.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from zephyr_lab.core import files, session
from zephyr_lab.reporting import tables
from zephyr_lab.reporting.ledger import require_id
from zephyr_lab.reporting.radar import radar
from zephyr_lab.reporting.style import (
    COLOURS,
    GREY,
    LOOKS,
    MARKERS,
    NARROW,
    VERDICT_FILLS,
    WIDE,
    Look,
    Picture,
    house_style,
    looks,
)

__all__ = [
    "COLOURS", "LOOKS", "MARKERS", "curves", "dot_plot", "dot_plots", "fits", "house_style", "panels", "radar", "save",
    "verdict_counts",
]  # fmt: skip

ROW_HEIGHT = 0.235  # inches a row of a dot plot
LEGEND_WIDTH = 95  # characters of a line of the legend, within the widest figure
_KIND_LOOKS = {"quoted": Look(GREY, "D"), "recomputed": LOOKS["dsft"], "retrained": LOOKS["ddpo"]}
_KIND_STROKES = {"quoted": (0, (2.5, 1)), "recomputed": "-", "retrained": "-"}


class _End(NamedTuple):
    """The last point of a line, its name and its look."""

    x: float
    y: float
    name: str
    look: Look
    quoted: bool


def save(figure: Picture, id: str) -> list[Path]:
    """Write build/<profile>/figures/<id>.svg and .png, say so to the session, return where they are.

    Raises ValueError for an id that is not paper/name.
    """
    require_id(id)
    written = []
    for ending in ("svg", "png"):
        path = session.current().build / "figures" / f"{id}.{ending}"
        files.write_bytes(path, figure.encode(ending))
        session.add_product(path)
        written.append(path)
    return written


def panels(count: int, *, height: float = 2.6, width: float = WIDE) -> tuple[Picture, list[Axes]]:
    """An empty figure with `count` panels side by side, sizes in inches."""
    figure = Picture(figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, count)))


def dot_plot(table: pd.DataFrame, metric: str | None = None, *, x_label: str) -> Picture:
    """One line a row of the tidy frame: published hollow, ours filled with its interval.

    `metric` may be left out where the frame has one. Raises ValueError for a metric that it lacks.
    """
    known = list(dict.fromkeys(table["metric"]))
    if metric is None and len(known) != 1:
        raise ValueError(f"the table has {len(known)} metrics, name one of: {', '.join(known)}")
    return dot_plots(table, {metric or known[0]: x_label})


def dot_plots(table: pd.DataFrame, x_labels: Mapping[str, str]) -> Picture:
    """A dot plot for each metric of `x_labels` (metric to axis label), sharing the rows.

    A table without any number gives a page that says so. Raises ValueError for a metric that the table lacks.
    """
    table = tables.check(table)
    if table.empty:
        return _nothing_at_hand()
    tables.require_metrics(table, x_labels)
    shown = table[table["metric"].isin(list(x_labels))]
    rows = list(dict.fromkeys(shown["row"]))
    width = WIDE if len(x_labels) > 1 else 5.2
    figure = Picture(figsize=(width, 1.15 + ROW_HEIGHT * len(rows)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(x_labels), sharey=True))
    by_method = all(row in LOOKS for row in rows)
    for ax, (metric, label) in zip(axes, x_labels.items(), strict=True):
        for row, part in shown[shown["metric"] == metric].groupby("row", sort=False):
            for (_, number), offset in zip(part.iterrows(), _offsets(len(part)), strict=True):
                colour = LOOKS[str(row)].colour if by_method else _KIND_LOOKS[number["kind"]].colour
                _dot(ax, number, rows.index(row) + offset, colour)
        ax.set_xlabel(label)
        ax.grid(color="0.92", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        if len(x_labels) > 1:  # a narrow panel, in which "-0.75" takes more room than matplotlib thinks
            ax.locator_params(axis="x", nbins=5)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.get_layout_engine().set(w_pad=0.08)  # inches: the outer tick labels of neighbours stay apart
    figure.legend(handles=_kind_handles(shown), loc="outside lower left", ncols=1, borderaxespad=0.2)
    return figure


def verdict_counts(counts: pd.DataFrame, *, x_label: str) -> Picture:
    """Horizontal bars of verdicts: one bar a row of `counts`, one hatched part a column, each with its number.

    What holds comes first, what is open last. Raises ValueError for a column that is no verdict.
    """
    unknown = [name for name in counts.columns if name not in VERDICT_FILLS]
    if unknown:
        raise ValueError(f"no verdict named {unknown[0]!r}; known: {', '.join(VERDICT_FILLS)}")
    figure = Picture(figsize=(WIDE, 1.5 + 0.34 * len(counts)), layout="constrained")
    ax = figure.subplots()
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
    left = np.zeros(len(counts))
    for name in [name for name in VERDICT_FILLS if name in counts.columns]:
        values = counts[name].to_numpy(dtype=float)
        colour, hatch = VERDICT_FILLS[name]
        rows = range(len(counts))
        ax.barh(rows, values, left=left, color=colour, hatch=hatch, edgecolor="0.25", linewidth=0.6, label=name)
        for y, (value, start) in enumerate(zip(values, left, strict=True)):
            if value:
                ax.text(start + value / 2, y, f"{value:g}", ha="center", va="center", fontsize=7, bbox=box)
        left += values
    ax.set_yticks(range(len(counts)), [str(name) for name in counts.index])
    ax.set_xlim(0, 1.03 * left.max())
    ax.invert_yaxis()
    ax.set_xlabel(x_label)
    figure.legend(loc="outside lower center", ncols=5)
    return figure


def _nothing_at_hand() -> Picture:
    figure = Picture(figsize=(5.2, 0.8), layout="constrained")
    figure.text(0.5, 0.5, "no values at hand", ha="center", va="center", color=GREY)
    return figure


def _offsets(count: int) -> list[float]:
    """Vertical places of the kinds within a row, in parts of its height."""
    return [0.0] if count == 1 else [(place - (count - 1) / 2) * 0.3 for place in range(count)]


def _dot(ax: Axes, number: pd.Series, y: float, colour: str) -> None:
    """One number: marker at its value, line over its interval."""
    kind = number["kind"]
    if not pd.isna(number["low"]):
        ax.plot([number["low"], number["high"]], [y, y], color=colour, linestyle=_KIND_STROKES[kind], linewidth=1.2)
    ax.plot(number["value"], y, **_marker(kind, colour), zorder=3)


def _marker(kind: str, colour: str) -> dict[str, Any]:
    """Published hollow, ours filled."""
    face = "white" if kind == "quoted" else colour
    return {"color": colour, "marker": _KIND_LOOKS[kind].marker, "markersize": 4.5, "markerfacecolor": face}


def _kind_handles(table: pd.DataFrame) -> list[Line2D]:
    """The legend's lines: what each kind looks like, where it is from, what its interval is of."""
    parts = {kind: table[table["kind"] == kind] for kind in _KIND_LOOKS}
    return [
        Line2D(
            [], [], **_marker(kind, _KIND_LOOKS[kind].colour), linestyle=_KIND_STROKES[kind], linewidth=1.2,
            label=_kind_label(kind, part),
        )
        for kind, part in parts.items()
        if not part.empty
    ]  # fmt: skip


def _kind_label(kind: str, part: pd.DataFrame) -> str:
    """ "published (Table 1; bar: standard error x 1.96)", "retrained (1 seed: no bar)", on as many lines as needed."""
    sources = list(dict.fromkeys(part["source"].dropna()))
    intervals = list(dict.fromkeys(part["interval"].dropna()))
    name = f"published ({', '.join(sources)})" if kind == "quoted" else kind
    said = f"{name}; bar: {'; '.join(intervals)}" if intervals else f"{name}; no interval given"
    return textwrap.fill(said, LEGEND_WIDTH)


def curves(
    frame: pd.DataFrame, *, x_label: str, y_label: str, ax: Axes | None = None, names_at: float | int | None = None
) -> Figure:
    """Lines over x, one a series: columns series, kind, x, y and, where there is an interval, low, high and interval.

    Ours solid with filled markers and a band for the interval, published dashed with hollow ones, in the hue of its
    series. Each line is named at its end, by its series or, where there is one, by its name in the column label; below
    the x label is written what the bands are. A line that a later one covers is drawn wider, so that both are seen.
    names_at: the x after which the names stand, where something else is drawn beyond the last point of the lines.
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
    _name_ends(ax, ends, after=names_at)
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
    """Lines below the x label that name the intervals drawn as bands; nothing where none is named."""
    named = list(dict.fromkeys(frame["interval"].dropna())) if "interval" in frame else []
    return "\nband: " + ";\n".join(named) if named else ""


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


def _name_ends(ax: Axes, ends: Sequence[_End], *, after: float | int | None) -> None:
    """Write each line's name to the right of the last point of all, or of `after`, pushed apart where two would touch.

    Where a name is not at the end of its line, all names have their line's marker before them.
    """
    low, high = ax.get_ylim()
    least = (high - low) * 0.075
    # a name at the end of a shorter line would lie on the longer ones
    right = max([*(end.x for end in ends), *([] if after is None else [after])])
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
