"""Pictures that answer the three questions of newcomers; frames come from `teaching.questions`."""

import pandas as pd
from matplotlib.axes import Axes

from zephyr_lab.reporting import figures
from zephyr_lab.reporting.style import Picture, looks
from zephyr_lab.teaching.questions import MEAN, SUM

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
