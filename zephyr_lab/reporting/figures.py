"""Figures of tidy score frames, and their files: same data, same bytes.

Each drawing function returns a Picture, a matplotlib Figure of its own; a notebook shows it by naming it last.
Error bars come from the frame (low, high), never from a plotting library, and the legend says of what they are.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from zephyr_lab.core import files, session
from zephyr_lab.reporting import tables
from zephyr_lab.reporting.items import require_id
from zephyr_lab.reporting.lines import curves, fits
from zephyr_lab.reporting.picture import Picture
from zephyr_lab.reporting.radar import radar
from zephyr_lab.reporting.style import COLOURS, GREY, LOOKS, MARKERS, VERDICT_FILLS, WIDE, Look, house_style

__all__ = [
    "COLOURS",
    "LOOKS",
    "MARKERS",
    "curves",
    "dot_plot",
    "dot_plots",
    "fits",
    "house_style",
    "panels",
    "radar",
    "save",
    "verdict_counts",
]

ROW_HEIGHT = 0.235  # inches a row of a dot plot
_KIND_LOOKS = {"quoted": Look(GREY, "D"), "recomputed": LOOKS["dsft"], "retrained": LOOKS["ddpo"]}
_KIND_STROKES = {"quoted": (0, (2.5, 1)), "recomputed": "-", "retrained": "-"}


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
    face = "white" if kind == "quoted" else colour
    ax.plot(
        number["value"],
        y,
        color=colour,
        marker=_KIND_LOOKS[kind].marker,
        markersize=4.5,
        markerfacecolor=face,
        zorder=3,
    )


def _kind_handles(table: pd.DataFrame) -> list[Line2D]:
    """The legend's lines: what each kind looks like, where it is from, what its interval is of."""
    handles = []
    for kind, look in _KIND_LOOKS.items():
        part = table[table["kind"] == kind]
        if part.empty:
            continue
        handles.append(
            Line2D(
                [],
                [],
                color=look.colour,
                marker=look.marker,
                markersize=4.5,
                markerfacecolor="white" if kind == "quoted" else look.colour,
                linestyle=_KIND_STROKES[kind],
                linewidth=1.2,
                label=_kind_label(kind, part),
            )
        )
    return handles


def _kind_label(kind: str, part: pd.DataFrame) -> str:
    """ "published (Table 1; bar: standard error x 1.96)", "retrained (1 seed: no bar)"."""
    sources = list(dict.fromkeys(part["source"].dropna()))
    intervals = list(dict.fromkeys(part["interval"].dropna()))
    name = f"published ({', '.join(sources)})" if kind == "quoted" else kind
    return f"{name}; bar: {'; '.join(intervals)}" if intervals else f"{name}; no interval given"
