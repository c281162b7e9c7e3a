"""Pictures of policies that climb a reward: reward against KL, gain against cost; and of estimators of KL."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from zephyr_lab.reporting import figures
from zephyr_lab.reporting.picture import Picture
from zephyr_lab.reporting.style import looks
from zephyr_lab.scoring.intervals import t_interval

HEIGHT = 3.6


def reward_over_kl(lines: pd.DataFrame, *, dotted: Collection[str] = ()) -> Picture:
    """True reward against KL to the start, a line an arm through the policies it left (`Points.over_kl`); bars over
    seeds. dotted: arms that are no training."""
    figure, (ax,) = figures.panels(1, height=HEIGHT)
    styles = looks(lines["series"])
    for arm, own in lines.groupby("series", sort=False):
        errors = None if own["low"].isna().any() else [own["y"] - own["low"], own["high"] - own["y"]]
        look = styles[str(arm)]
        ax.errorbar(
            own["x"], own["y"], yerr=errors, color=look.colour, marker=look.marker, label=arm,
            markersize=4.5, linewidth=1.1, elinewidth=0.7, linestyle=":" if arm in dotted else "-",
        )  # fmt: skip
    _finish(ax, "KL to the start, nats an answer", "true reward, 1 to 10")
    figure.legend(loc="outside right center", title=_bars(lines["interval"].iloc[0]), title_fontsize=7.5)
    return figure


def gain_by_cost(
    gains: Mapping[str, Sequence[float]], tflop: Mapping[str, Sequence[float]], *, names: Sequence[str]
) -> Picture:
    """Gain of each arm in true reward against counted FLOPs of its whole training, logarithmic; both a value a seed.

    names: the arms of the other pictures in their order, so that each looks as it does there.
    """
    figure, (ax,) = figures.panels(1, height=HEIGHT)
    styles = looks(names)
    for arm, values in gains.items():
        mean, ends = np.mean(values), t_interval(values)
        errors = None if ends is None else [[mean - ends.low], [ends.high - mean]]
        look = styles[arm]
        ax.errorbar(
            [np.mean(tflop[arm])], [mean], yerr=errors, color=look.colour, marker=look.marker, label=arm,
            markersize=5.5, linestyle="", elinewidth=0.8,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.axhline(0.0, color="0.6", linewidth=0.7)
    _finish(ax, "cost of the training, TFLOP", "gain in true reward, points")
    _plain_ticks(ax, [cost for arm in gains for cost in tflop[arm]])
    seeds = len(next(iter(gains.values())))
    title = _bars(f"{seeds} seeds, t 95 %" if seeds > 1 else None)
    figure.legend(loc="outside right center", title=title, title_fontsize=7.5)
    return figure


def kl_estimators(moments: pd.DataFrame) -> Picture:
    """Two panels over the true KL, both axes logarithmic: standard deviation and absolute bias of each estimator.

    moments: columns estimator, kl, bias, sd, in nats.
    """
    figure, (left, right) = figures.panels(2)
    styles = looks(moments["estimator"])
    for ax, column, label in ((left, "sd", "standard deviation of one draw, nats"), (right, "bias", "bias, nats")):
        for name, own in moments.groupby("estimator", sort=False):
            look = styles[str(name)]
            values = own[column].abs()
            if values.max() > 1e-9:  # an unbiased one has no line on a logarithmic scale
                ax.plot(own["kl"], values, color=look.colour, marker=look.marker, markersize=4, label=str(name))
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("true KL, nats")
        ax.set_ylabel(label)
        ax.grid(color="0.93", linewidth=0.6)
    left.legend(loc="upper left")
    right.legend(loc="upper left", title="k1 and k3: none", title_fontsize=7.5)
    return figure


def _plain_ticks(ax: Axes, costs: Sequence[float]) -> None:
    """Ticks at 1, 2 and 5 times powers of ten within the data, written out."""
    low, high = 0.7 * min(costs), 1.4 * max(costs)
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


def _bars(interval: str | None) -> str:
    return f"bar: {interval}" if interval else "1 seed: no bar"
