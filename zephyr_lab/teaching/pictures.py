"""Pictures of notebooks 40 to 43 that no general plot draws: of the exact toy, and of policies that climb a reward."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from zephyr_lab.reporting import figures
from zephyr_lab.reporting.style import Look, Picture, looks
from zephyr_lab.scoring.intervals import t_interval
from zephyr_lab.teaching.questions import MEAN, SUM

REWARD_HEIGHT = 3.6
_TOKENS = {"up to 3 tokens": (1, 3, "v"), "4 or 5": (4, 5, "o"), "6 and more": (6, 99, "^")}


def convergence(curves: pd.DataFrame) -> Picture:
    """KL to the optimum over steps, both on log scales; bands: t intervals over toys."""
    picture, (ax,) = figures.panels(1, height=2.9, width=5.2)
    _bands(ax, curves)
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
    _bands(left, by_count[by_count["series"] != ringed])
    left.plot(twin["x"], twin["y"], "o", markerfacecolor="none", color="black", markersize=8, label=ringed)
    _bands(middle, by_step)
    _bands(right, by_penalty)
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
        for series, line, _ in _by_series(part):
            _plot(ax, line, styles[series], label=series, linewidth=0.9, markersize=4)
        ax.set_title(title)
        ax.set_xlim(0, 1.05 * max(known["x"].max(), drawn["x"].max()))
        _finish(ax, "KL to the reference, nats", "true reward")
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    picture.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return picture


def later(lines: pd.DataFrame) -> Picture:
    """Lost share over the steps of a second method after DPO."""
    picture, (ax,) = figures.panels(1, height=2.7, width=5.2)
    _bands(ax, lines)
    ax.set_xscale("symlog", linthresh=1)
    _finish(ax, "steps of the second method", "share of the gain that is lost, %")
    ax.legend(loc="upper left")
    return picture


def slopes(lines: pd.DataFrame) -> Picture:
    """`questions.slopes` as lines, with a line where nothing pulls."""
    picture, (ax,) = figures.panels(1, height=2.6, width=5.2)
    for series, part, look in _by_series(lines):
        _plot(ax, part, look, label=series, markevery=10, markersize=4)
    ax.axhline(0, color="0.4", linewidth=0.8)
    _finish(ax, "margin h, nats", "pull, relative to h = 0")
    ax.legend()
    return picture


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
        for series, part, _ in _by_series(frame):
            _plot(ax, part, styles[series], label=series, markevery=max(1, len(part) // 7))
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
    labels = {"loss": "loss as programmed", "objective": "reward - beta KL"}
    for ax, (quantity, label) in zip(axes, labels.items(), strict=True):
        for series, part, look in _by_series(frame):
            _plot(ax, part, look, quantity, label=series, markevery=4)
        ax.set_xscale("symlog", linthresh=1)
        _finish(ax, "steps", label)
    picture.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return picture


def reward_over_kl(lines: pd.DataFrame, *, dotted: Collection[str] = ()) -> Picture:
    """True reward against KL to the start, a line an arm through the policies it left (`Points.over_kl`); bars over
    seeds. dotted: arms that are no training."""
    picture, (ax,) = figures.panels(1, height=REWARD_HEIGHT)
    for arm, own, look in _by_series(lines):
        errors = None if own["low"].isna().any() else [own["y"] - own["low"], own["high"] - own["y"]]
        ax.errorbar(
            own["x"], own["y"], yerr=errors, color=look.colour, marker=look.marker, label=arm,
            markersize=4.5, linewidth=1.1, elinewidth=0.7, linestyle=":" if arm in dotted else "-",
        )  # fmt: skip
    _finish(ax, "KL to the start, nats an answer", "true reward, 1 to 10")
    picture.legend(loc="outside right center", title=_bars(lines["interval"].iloc[0]), title_fontsize=7.5)
    return picture


def gain_by_cost(
    gains: Mapping[str, Sequence[float]], tflop: Mapping[str, Sequence[float]], *, names: Sequence[str]
) -> Picture:
    """Gain of each arm in true reward against counted FLOPs of its whole training, logarithmic; both a value a seed.

    names: the arms of the other pictures in their order, so that each looks as it does there.
    """
    picture, (ax,) = figures.panels(1, height=REWARD_HEIGHT)
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
    picture.legend(loc="outside right center", title=title, title_fontsize=7.5)
    return picture


def kl_estimators(moments: pd.DataFrame) -> Picture:
    """Two panels over the true KL, both axes logarithmic: standard deviation and absolute bias of each estimator.

    moments: columns estimator, kl, bias, sd, in nats.
    """
    picture, (left, right) = figures.panels(2)
    lines = moments.rename(columns={"estimator": "series", "kl": "x"})
    for ax, column, label in ((left, "sd", "standard deviation of one draw, nats"), (right, "bias", "bias, nats")):
        for name, own, look in _by_series(lines.assign(**{column: lines[column].abs()})):
            if own[column].max() > 1e-9:  # an unbiased one has no line on a logarithmic scale
                _plot(ax, own, look, column, label=name, markersize=4)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("true KL, nats")
        ax.set_ylabel(label)
        ax.grid(color="0.93", linewidth=0.6)
    left.legend(loc="upper left")
    right.legend(loc="upper left", title="k1 and k3: none", title_fontsize=7.5)
    return picture


def _by_series(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, Look]]:
    """Each series with its rows and its look; the looks' order is that of the series."""
    styles = looks(list(dict.fromkeys(frame["series"])))
    for series, part in frame.groupby("series", sort=False):
        yield str(series), part, styles[str(series)]


def _plot(ax: Axes, part: pd.DataFrame, look: Look, y: str = "y", **style: Any) -> None:
    ax.plot(part["x"], part[y], color=look.colour, marker=look.marker, **style)


def _bands(ax: Axes, curves: pd.DataFrame) -> None:
    """A line a series with the band of its interval, named in the legend."""
    for series, part, look in _by_series(curves):
        _plot(ax, part, look, label=series, markersize=4, linewidth=1.2, markevery=max(1, len(part) // 8))
        if part["low"].notna().any():
            ax.fill_between(part["x"], part["low"], part["high"], color=look.colour, alpha=0.15, lw=0)


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
