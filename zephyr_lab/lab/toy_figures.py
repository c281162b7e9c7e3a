"""Pictures of the exact toy that no general plot draws: distances on a log scale, and the line that nothing crosses."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from zephyr_lab.reporting import figures
from zephyr_lab.reporting.style import Picture, looks


def convergence(curves: pd.DataFrame) -> Picture:
    """KL to the optimum over steps, both on log scales; bands: t intervals over toys."""
    picture, (ax,) = figures.panels(1, height=2.9, width=5.2)
    _lines(ax, curves)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_yscale("log")
    ax.axhline(1e-6, color="0.4", linewidth=0.8, linestyle=":")
    ax.annotate("1e-6 nats", (0.05, 1e-6), xytext=(0, 2), textcoords="offset points", fontsize=7, color="0.3")
    _finish(ax, "steps", "KL to the optimum, nats")
    ax.legend(loc="lower left")
    return picture


def few_preferences(by_count: pd.DataFrame, by_step: pd.DataFrame, by_penalty: pd.DataFrame, *, ringed: str) -> Picture:
    """Left: lost share by count of preferences. Middle: over DPO's steps. Right: by the penalty on rewards.

    ringed: the series of the left panel that is drawn as rings, because another one hides it.
    """
    picture, (left, middle, right) = figures.panels(3, height=3.5)
    twin = by_count[by_count["series"] == ringed]
    _lines(left, by_count[by_count["series"] != ringed])
    left.plot(twin["x"], twin["y"], "o", markerfacecolor="none", color="black", markersize=8, label=ringed)
    _lines(middle, by_step)
    _lines(right, by_penalty)
    for ax, label in ((left, "preferences"), (middle, "steps of DPO"), (right, "penalty on rewards")):
        ax.set_xscale("symlog" if ax is middle else "log", **({"linthresh": 1} if ax is middle else {}))
        ax.set_yscale("log")
        ax.set_ylim(0.8, 400)
        ax.set_yticks([1, 10, 100], ["1", "10", "100"])
        ax.axhline(100, color="0.4", linewidth=0.8, linestyle=":")
        _finish(ax, label, "share of the gain that is lost, %" if ax is left else "")
    left.annotate("above the dots: worse\nthan not training", (0.4, 0.9), xycoords="axes fraction", fontsize=6.5)
    left.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2))
    for ax in (middle, right):
        ax.legend(title="preferences", loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, title_fontsize=7)
    return picture


def frontiers(frontier: pd.DataFrame, known: pd.DataFrame, drawn: pd.DataFrame, *, count: int) -> Picture:
    """Reward over KL along each method's knob: left with all preferences known, right with `count` of them drawn."""
    picture, axes = figures.panels(2, height=3.4)
    styles = looks(list(dict.fromkeys([*known["series"], *drawn["series"]])))
    for ax, part, title in zip(axes, (known, drawn), ("all preferences known", f"{count:,} preferences"), strict=True):
        ax.plot(frontier["x"], frontier["y"], color="black", linewidth=1.0, linestyle="--", label="optimum, any beta")
        for series, line in part.groupby("series", sort=False):
            look = styles[str(series)]
            ax.plot(
                line["x"], line["y"], color=look.colour, marker=look.marker, linewidth=0.9, markersize=4, label=series
            )
        ax.set_title(title)
        ax.set_xlim(0, 1.05 * max(known["x"].max(), drawn["x"].max()))
        _finish(ax, "KL to the reference, nats", "true reward")
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    picture.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return picture


def later(lines: pd.DataFrame) -> Picture:
    """Lost share over the steps of a second method after DPO."""
    picture, (ax,) = figures.panels(1, height=2.7, width=5.2)
    _lines(ax, lines)
    ax.set_xscale("symlog", linthresh=1)
    _finish(ax, "steps of the second method", "share of the gain that is lost, %")
    ax.legend(loc="upper left")
    return picture


def _lines(ax: Axes, curves: pd.DataFrame) -> None:
    """A line a series with its band, named in the legend; the colours' order is that of the series."""
    styles: Mapping[str, object] = looks(list(dict.fromkeys(curves["series"])))
    for series, part in curves.groupby("series", sort=False):
        look = styles[str(series)]
        ax.plot(
            part["x"], part["y"], color=look.colour, marker=look.marker, markersize=4, linewidth=1.2,
            markevery=max(1, len(part) // 8), label=series,
        )  # fmt: skip
        if part["low"].notna().any():
            ax.fill_between(part["x"], part["low"], part["high"], color=look.colour, alpha=0.15, lw=0)


def _finish(ax: Axes, x_label: str, y_label: str) -> None:
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.grid(color="0.93", linewidth=0.6)
    ax.set_axisbelow(True)
