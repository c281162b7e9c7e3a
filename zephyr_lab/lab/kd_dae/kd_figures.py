"""Pictures of distillation that no general plot draws: loss curves side by side, doses and shares of domain data."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from zephyr_lab.lab import seed_means
from zephyr_lab.lab.arms import Arm
from zephyr_lab.reporting import figures, tables
from zephyr_lab.reporting.style import GREY, LOOKS, Look, Picture

START, START_LOOK = "start", Look(GREY, "X")


def step_curves(arms: Mapping[str, Arm], column: str) -> pd.DataFrame:
    """What `figures.curves` draws: the logged `column` over steps, a line an arm, mean and t interval over seeds."""
    lines = []
    for name, arm in arms.items():
        logs = [log for _, log in arm.log().dropna(subset=[column]).groupby("seed")]
        lines.append(seed_means.curve(name, logs[0]["step"], [log[column] for log in logs], kind="retrained"))
    return pd.concat(lines, ignore_index=True)


def loss_panels(panels: Mapping[str, pd.DataFrame]) -> Picture:
    """Loss curves side by side, one panel a loss (name -> frame of `figures.curves`)."""
    picture, axes = figures.panels(len(panels), height=2.7)
    for ax, (name, frame) in zip(axes, panels.items(), strict=True):
        figures.curves(frame, x_label="optimiser steps", y_label=name, ax=ax)
        ax.set_ylim(bottom=0)
        ax.locator_params(axis="x", nbins=4)
    return picture


def trade_off(doses: pd.DataFrame, shown: Mapping[str, tuple[str, Look]]) -> Picture:
    """Domain score against chat score, a line an arm from the start through its doses; bars: intervals of both.

    `doses` has rows "<arm>, <n> steps" and "start, 0 steps" and the metrics "ecomm_eval" and "mt_bench"; `shown` says
    what an arm is called and looks like.
    """
    picture = Picture(figsize=(4.6, 3.4), layout="constrained")
    ax = picture.subplots()
    points = _points(doses)
    start = points.pop(START)[0]
    for arm, (name, look) in shown.items():
        line = [start, *points[arm]]
        ax.plot([p.x for p in line], [p.y for p in line], color=look.colour, linewidth=1.2)
        for point in points[arm]:
            _cross(ax, point, look)
            ax.annotate(f"{point.steps}", (point.x, point.y), xytext=(4, 4), textcoords="offset points", fontsize=6.5)
        ax.plot([], [], color=look.colour, marker=look.marker, label=name)
    _cross(ax, start, START_LOOK)
    ax.annotate("start", (start.x, start.y), xytext=(4, -9), textcoords="offset points", fontsize=7)
    ax.set_xlabel("domain score, 1 to 10")
    ax.set_ylabel("chat score, 1 to 10")
    return _finished(picture, ax, doses, 3, "numbers: steps; bars")


def share_curves(shares: pd.DataFrame) -> Picture:
    """Gain in domain and chat score over the start, by the share of domain rows; rows of `shares` are "<share> %"."""
    names = {"ecomm_eval": ("domain score", LOOKS["dae"]), "mt_bench": ("chat score", LOOKS["kd"])}
    picture = Picture(figsize=(4.0, 2.8), layout="constrained")
    ax = picture.subplots()
    ax.axhline(0, color="0.35", linewidth=0.8)
    for metric, (name, look) in names.items():
        line = shares[shares["metric"] == metric]
        x = line["row"].str.removesuffix(" %").astype(float)
        ax.plot(x, line["value"], color=look.colour, marker=look.marker, linewidth=1.2, label=name)
        ax.vlines(x, line["low"], line["high"], color=look.colour, linewidth=1.0)
    ax.set_xscale("log")
    ax.set_xticks(list(x), [f"{share:g}" for share in x])
    ax.minorticks_off()
    ax.set_xlabel("domain rows, % (logarithmic)")
    ax.set_ylabel("after DAE - before")
    return _finished(picture, ax, shares, 2, "bars")


def save_curves(panels: Mapping[str, pd.DataFrame], id: str) -> Path:
    """Write the curves of a figure to build/<profile>/tables/<id>.csv, register and return it."""
    return tables.save_words(pd.concat([frame.assign(panel=name) for name, frame in panels.items()]), id)


def _finished(picture: Picture, ax: Axes, numbers: pd.DataFrame, columns: int, what: str) -> Picture:
    """The picture with a grid, and with a legend that says what the bars are."""
    ax.grid(color="0.93", linewidth=0.6)
    ax.set_axisbelow(True)
    title = f"{what}: {'; '.join(dict.fromkeys(numbers['interval']))}"
    picture.legend(loc="outside lower center", ncols=columns, title=title, title_fontsize=7)
    return picture


class _Point(NamedTuple):
    steps: int
    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]


def _points(doses: pd.DataFrame) -> dict[str, list[_Point]]:
    """Points of each arm by rising dose."""
    numbers = {(row["row"], row["metric"]): row for _, row in doses.iterrows()}
    by_arm: dict[str, list[_Point]] = {}
    for row in dict.fromkeys(doses["row"]):
        arm, _, dose = row.rpartition(", ")
        x, y = numbers[row, "ecomm_eval"], numbers[row, "mt_bench"]
        steps = int(dose.removesuffix(" steps"))
        point = _Point(steps, x["value"], y["value"], (x["low"], x["high"]), (y["low"], y["high"]))
        by_arm.setdefault(arm, []).append(point)
    return {arm: sorted(points) for arm, points in by_arm.items()}


def _cross(ax: Axes, point: _Point, look: Look) -> None:
    ax.plot(point.x_ends, [point.y] * 2, color=look.colour, linewidth=0.8, alpha=0.7)
    ax.plot([point.x] * 2, point.y_ends, color=look.colour, linewidth=0.8, alpha=0.7)
    ax.plot(point.x, point.y, color=look.colour, marker=look.marker)
