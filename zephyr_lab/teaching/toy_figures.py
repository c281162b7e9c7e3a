"""Pictures of the exact toy that no general plot draws: distances on a log scale, and the line that nothing crosses."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from zephyr_lab.reporting import figures
from zephyr_lab.reporting.picture import Picture
from zephyr_lab.reporting.style import looks
from zephyr_lab.teaching.questions import MEAN, SUM


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


def slopes(lines: pd.DataFrame) -> Picture:
    """`questions.slopes` as lines, with a line where nothing pulls."""
    drawn, (ax,) = figures.panels(1, height=2.6, width=5.2)
    styles = looks(lines["series"])
    for series, part in lines.groupby("series", sort=False):
        look = styles[str(series)]
        ax.plot(part["x"], part["y"], color=look.colour, marker=look.marker, markevery=10, markersize=4, label=series)
    ax.axhline(0, color="0.4", linewidth=0.8)
    ax.set_xlabel("margin h, nats")
    ax.set_ylabel("pull, relative to h = 0")
    ax.grid(color="0.93", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend()
    return drawn


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


_TOKENS = {"up to 3 tokens": (1, 3, "v"), "4 or 5": (4, 5, "o"), "6 and more": (6, 99, "^")}


def sum_or_mean(frame: pd.DataFrame) -> Picture:
    """`questions.sum_or_mean`: reward read off the policy over true reward; left from sums, right from means."""
    picture, axes = figures.panels(2, height=3.0)
    styles = looks(_TOKENS)
    for ax, series in zip(axes, (SUM, MEAN), strict=True):
        part = frame[frame["series"] == series]
        for name, (least, most, marker) in _TOKENS.items():
            some = part[part["tokens"].between(least, most)]
            ax.scatter(some["x"], some["y"], s=14, marker=marker, color=styles[name].colour, label=name, linewidths=0)
        ax.axline((0, 0), slope=1, color="0.4", linewidth=0.8, linestyle="--")
        ax.set_title(series)
        _finish(ax, "true reward", "beta log(pi / pi_ref)")
    axes[0].legend(loc="upper left")
    return picture


def chosen_rewards(by_beta: pd.DataFrame, by_step: pd.DataFrame) -> Picture:
    """Left: `questions.rewards_on_the_way`. Right: `questions.rewards_of_the_optimum`."""
    picture, (left, right) = figures.panels(2, height=2.8)
    styles = looks(["chosen", "rejected", "margin"])
    for ax, frame in ((left, by_step), (right, by_beta)):
        for series, part in frame.groupby("series", sort=False):
            look = styles[str(series)]
            every = max(1, len(part) // 7)
            ax.plot(part["x"], part["y"], color=look.colour, marker=look.marker, markevery=every, label=series)
        ax.axhline(0, color="0.4", linewidth=0.8)
    left.set_xscale("symlog", linthresh=1)
    left.set_xlim(left=-0.1)
    right.set_xscale("log")
    _finish(left, "steps of DPO", "mean implicit reward")
    _finish(right, "beta", "the same at the optimum")
    left.legend(loc="best")
    return picture


def which_way_round(frame: pd.DataFrame) -> Picture:
    """`questions.which_way_round`: the loss falls whichever way, what RLHF wants does not rise."""
    picture, axes = figures.panels(2, height=2.9)
    styles = looks(frame["series"])
    for ax, quantity, label in zip(
        axes, ("loss", "objective"), ("loss as programmed", "reward - beta KL"), strict=True
    ):
        for series, part in frame.groupby("series", sort=False):
            look = styles[str(series)]
            ax.plot(part["x"], part[quantity], color=look.colour, marker=look.marker, markevery=4, label=series)
        ax.set_xscale("symlog", linthresh=1)
        _finish(ax, "steps", label)
    handles, labels = axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=3)
    return picture


def _finish(ax: Axes, x_label: str, y_label: str) -> None:
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.grid(color="0.93", linewidth=0.6)
    ax.set_axisbelow(True)
