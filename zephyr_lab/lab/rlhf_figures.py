"""Figures of the comparison of DPO with RLHF: reward against KL, and gain against cost."""

import numpy as np
from matplotlib.axes import Axes

from zephyr_lab.lab import rlhf
from zephyr_lab.lab.rlhf import ARMS, START, TRAINED, Comparison, last
from zephyr_lab.reporting import figures
from zephyr_lab.reporting.picture import Picture
from zephyr_lab.reporting.style import looks
from zephyr_lab.scoring.intervals import t_interval

HEIGHT = 3.6


def frontier(done: Comparison) -> Picture:
    """True reward against KL to the start, a line an arm through the policies it left; bars over seeds."""
    figure, (ax,) = figures.panels(1, height=HEIGHT)
    table = rlhf.frontier(done)
    styles = looks(ARMS)
    for arm in ARMS:
        own = table[table["series"] == arm]
        errors = None if own["low"].isna().any() else [own["y"] - own["low"], own["high"] - own["y"]]
        look = styles[arm]
        ax.errorbar(
            own["x"], own["y"], yerr=errors, color=look.colour, marker=look.marker, label=arm,
            markersize=4.5, linewidth=1.1, elinewidth=0.7, linestyle=":" if arm == rlhf.BEST else "-",
        )  # fmt: skip
    _finish(ax, "KL to the start, nats an answer", "true reward, 1 to 10")
    figure.legend(loc="outside right center", title=_bars(done), title_fontsize=7.5)
    return figure


def gain_by_cost(done: Comparison) -> Picture:
    """Gain of the final policy in true reward against counted FLOPs of its whole training."""
    figure, (ax,) = figures.panels(1, height=HEIGHT)
    styles = looks(ARMS)
    begun = last(done, START)["quality"].to_numpy()
    for arm in TRAINED:
        gains = last(done, arm)["quality"].to_numpy() - begun
        cost = done.costs[done.costs["arm"] == arm]["tflop"].mean()
        ends = t_interval(gains)
        errors = None if ends is None else [[gains.mean() - ends.low], [ends.high - gains.mean()]]
        look = styles[arm]
        ax.errorbar(
            [cost], [gains.mean()], yerr=errors, color=look.colour, marker=look.marker, label=arm,
            markersize=5.5, linestyle="", elinewidth=0.8,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.axhline(0.0, color="0.6", linewidth=0.7)
    _finish(ax, "cost of the training, TFLOP", "gain in true reward, points")
    _plain_ticks(ax, done)
    figure.legend(loc="outside right center", title=_bars(done), title_fontsize=7.5)
    return figure


def _plain_ticks(ax: Axes, done: Comparison) -> None:
    """Ticks at 1, 2 and 5 times powers of ten within the data, written out."""
    costs = done.costs[done.costs["arm"].isin(TRAINED)]["tflop"]
    low, high = 0.7 * costs.min(), 1.4 * costs.max()
    powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = [step * 10**power for power in powers for step in (1, 2, 5) if low <= step * 10**power <= high]
    ax.set_xlim(low, high)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def _finish(ax: Axes, x_label: str, y_label: str) -> None:
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.grid(color="0.93", linewidth=0.6)
    ax.set_axisbelow(True)


def _bars(done: Comparison) -> str:
    return f"bar: {done.seeds} seeds, t 95 %" if done.seeds > 1 else "1 seed: no bar"
