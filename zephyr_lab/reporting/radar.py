"""The radar of scores by category: one polygon a model, named where it is farthest from the others."""

import itertools
from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.projections.polar import PolarAxes
from scipy.optimize import linear_sum_assignment

from zephyr_lab.reporting import tables
from zephyr_lab.reporting.style import GREY, WIDE, Look, Picture, looks

_HOLLOW = {"markersize": 7, "markerfacecolor": "none"}
_STROKES = ("-", (0, (6, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))


def radar(table: pd.DataFrame, *, order: Sequence[str] | None = None, limit: float = 10.0) -> Picture:
    """Scores by category on spokes from 0 to `limit`, one polygon a row of ours, hollow diamonds for published values.

    `order` names the spokes (default: the table's metrics as they come). Each polygon has a marker and a stroke of
    its own and is named beside it. Raises ValueError for a metric of the table that is no spoke.
    """
    table = tables.check(table)
    order = list(order or dict.fromkeys(table["metric"]))
    strange = [metric for metric in dict.fromkeys(table["metric"]) if metric not in order]
    if strange:
        raise ValueError(f"the table's metric {strange[0]!r} is none of the spokes: {', '.join(order)}")
    angles = dict(zip(order, np.linspace(0, 2 * np.pi, len(order), endpoint=False), strict=True))
    ours = table[table["kind"].isin(tables.OURS)]
    theirs = table[table["kind"] == "quoted"]
    styles = looks(table["row"])
    figure = Picture(figsize=(WIDE, 4.6), layout="constrained")
    ax = figure.add_subplot(projection="polar")
    _spokes(ax, angles, limit)
    wide = ours.pivot(index="row", columns="metric", values="value").reindex(columns=order)
    wide = wide.loc[list(dict.fromkeys(ours["row"]))]
    for (row, values), stroke in zip(wide.iterrows(), _STROKES * len(wide), strict=False):
        around = [angles[metric] for metric in [*order, order[0]]]
        look = styles[str(row)]
        closed = [*values, values.iloc[0]]
        ax.plot(around, closed, color=look.colour, marker=look.marker, linestyle=stroke, label=str(row), zorder=3)
    _name_polygons(ax, wide, angles, limit)
    _place_scale(ax, wide)
    for row, part in theirs.groupby("row", sort=False):
        places = [angles[metric] for metric in part["metric"]]
        look = styles[str(row)]
        marker = "D" if row in wide.index else look.marker
        ax.plot(places, list(part["value"]), color=look.colour, marker=marker, linestyle="none", **_HOLLOW, zorder=2)
    figure.legend(
        handles=_handles(wide, theirs, styles),
        title=_title(ours),
        loc="outside right upper",
        alignment="left",
        title_fontsize=7.5,
    )
    return figure


def _spokes(ax: PolarAxes, angles: Mapping[str, float], limit: float) -> None:
    ax.set_theta_offset(np.pi / 2)
    ax.set_theta_direction(-1)
    ax.set_ylim(0, limit)
    ax.set_xticks(list(angles.values()), list(angles))
    ax.tick_params(axis="x", pad=6)
    ax.set_yticks(np.arange(2, limit + 1, 2), [f"{tick:g}" for tick in np.arange(2, limit + 1, 2)])
    ax.grid(color="0.85", linewidth=0.6)
    ax.spines["polar"].set_color("0.7")


def _name_polygons(ax: PolarAxes, wide: pd.DataFrame, angles: Mapping[str, float], limit: float) -> None:
    """Write each row's name beside its polygon, at the spoke where it is farthest outside or inside the others.

    One name a spoke; a row that is nowhere the outermost or innermost is named by the legend alone.
    """
    room = np.full(wide.shape, -np.inf)
    outward = np.ones(wide.shape)
    for (place, row), (spoke, metric) in itertools.product(enumerate(wide.index), enumerate(wide.columns)):
        value, others = wide.loc[row, metric], wide[metric].drop(row)
        outside, inside = value - others.max(), others.min() - value
        if outside > 0 and value < limit - 1.2:  # farther out the name would meet the spoke's own
            room[place, spoke] = outside
        elif inside > 0:
            room[place, spoke], outward[place, spoke] = inside, -1
    for place, spoke in _assign(room):
        angle = angles[wide.columns[spoke]]
        across, up = outward[place, spoke] * np.array([np.sin(angle), np.cos(angle)])
        ax.annotate(
            str(wide.index[place]),
            (angle, wide.iloc[place, spoke]),
            xytext=(7 * across, 9 * up),
            textcoords="offset points",
            ha="center" if abs(across) < 0.4 else ("left" if across > 0 else "right"),
            va="center" if abs(up) < 0.4 else ("bottom" if up > 0 else "top"),
            fontsize=7.5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=4,
        )


def _place_scale(ax: PolarAxes, wide: pd.DataFrame) -> None:
    """Write the scale between the two spokes where the polygons leave most room inside."""
    lowest = wide.min().fillna(0).to_numpy()
    room = np.minimum(lowest, np.roll(lowest, -1))
    ax.set_rlabel_position(360 / len(lowest) * (int(room.argmax()) + 0.5))


def _assign(room: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row, column) with the most room in all, each row and column at most once, none without room."""
    rows, columns = linear_sum_assignment(np.where(np.isfinite(room), room, -1e6), maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if np.isfinite(room[r, c])]


def _title(ours: pd.DataFrame) -> str:
    """What the polygons are; without any, that what is drawn is published alone."""
    if ours.empty:
        return "published values alone:\nnone of ours is at hand"
    kinds = " and ".join(dict.fromkeys(ours["kind"]))
    return f"{kinds}, mean of each category\n(intervals: see the table)"


def _handles(wide: pd.DataFrame, theirs: pd.DataFrame, styles: Mapping[str, Look]) -> list[Line2D]:
    """One line a polygon, one for published values beside ours, one for each model of theirs alone."""
    handles = [
        Line2D([], [], color=styles[str(row)].colour, marker=styles[str(row)].marker, linestyle=stroke, label=str(row))
        for row, stroke in zip(wide.index, _STROKES * len(wide), strict=False)
    ]
    if theirs.empty:
        return handles
    source = ", ".join(dict.fromkeys(theirs["source"].dropna()))
    alone = [row for row in dict.fromkeys(theirs["row"]) if row not in wide.index]
    beside = len(alone) < theirs["row"].nunique()
    shapes = {f"published, in the hue of its model ({source})": Look(GREY, "D")} if beside else {}
    shapes |= {f"{row}, published ({source})": styles[row] for row in alone}
    return handles + [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle="none", **_HOLLOW, label=fill(label, 30))
        for label, look in shapes.items()
    ]
