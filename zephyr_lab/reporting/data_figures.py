"""Figures of the data notebooks: planted errors found again, scores of writers, correlations, skills, a waterfall of
filtered rows, places of preference pairs. All intervals come with the frames.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from zephyr_lab.reporting import tables
from zephyr_lab.reporting.style import COLOURS, GREY, NARROW, WIDE, Picture, looks

_BAR_LIGHT = "#c9dcea"
_INTERVAL = {"fmt": "none", "ecolor": "0.25", "elinewidth": 0.9, "capsize": 1.5}


def recovered(frame: pd.DataFrame, titles: Mapping[str, str]) -> Picture:
    """One panel a metric of `titles`: estimates with intervals (columns value, low, high) in a column for each planted
    value (column planted), which is drawn as a dashed line. Raises ValueError for a metric that the frame lacks.
    """
    tables.require_metrics(frame, titles)
    figure = Picture(figsize=(WIDE, 2.5), layout="constrained")
    for ax, (metric, title) in zip(_panels(figure, len(titles)), titles.items(), strict=True):
        groups = list(frame[frame["metric"] == metric].groupby("planted"))
        for place, (planted, part) in enumerate(groups):
            ax.hlines(planted, place - 0.45, place + 0.45, color=GREY, linestyle=(0, (3, 1.5)), linewidth=1.1)
            _points(ax, place + np.linspace(-0.3, 0.3, len(part) + 2)[1:-1], part, COLOURS["dsft"], "o")
        ax.set_xticks(range(len(groups)), [f"{planted:g}" for planted, _ in groups])
        ax.set_xlim(-0.6, len(groups) - 0.4)
        ax.set_title(title)
        ax.set_xlabel("planted")
    figure.axes[0].set_ylabel("found again")
    handles = [
        Line2D([], [], color=GREY, linestyle=(0, (3, 1.5)), label="planted"),
        Line2D([], [], color=COLOURS["dsft"], marker="o", markersize=3.5, label=f"found again; bar: {_bases(frame)}"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure


def score_histograms(frame: pd.DataFrame) -> Picture:
    """One panel a writer: shares of answers at each score, exact as bars, rated ("overall") as points with intervals.

    Columns writer, score, metric, value, low, high.
    """
    writers = list(dict.fromkeys(frame["writer"]))
    figure = Picture(figsize=(WIDE, 2.2), layout="constrained")
    for ax, writer in zip(_panels(figure, len(writers), shared=True), writers, strict=True):
        own = frame[frame["writer"] == writer]
        exact, rated = (own[own["metric"] == metric] for metric in ("exact", "overall"))
        ax.bar(exact["score"], exact["value"], width=0.85, color=_BAR_LIGHT, edgecolor="0.4", linewidth=0.5)
        ax.errorbar(exact["score"] - 0.15, exact["value"], yerr=_errors(exact), **_INTERVAL)
        ax.plot(rated["score"], rated["value"], color=COLOURS["ddpo"], linewidth=0.9)
        _points(ax, rated["score"] + 0.0, rated, COLOURS["ddpo"], "s")
        ax.set_title(str(writer))
        ax.set_xticks([1, 4, 7, 10])
        ax.set_xlabel("score")
    figure.axes[0].set_ylabel("answers, %")
    handles = [
        Patch(facecolor=_BAR_LIGHT, edgecolor="0.4", label="exact judge"),
        Line2D([], [], color=COLOURS["ddpo"], marker="s", markersize=3.5, label="overall rating"),
        Line2D([], [], color="0.25", label=f"bar: {_bases(frame)}"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def correlation_maps(frames: Mapping[str, pd.DataFrame], names: Mapping[str, str]) -> Picture:
    """Side by side, one triangle of correlations a tidy frame: row against metric, the number in its cell.

    `names` gives variables their labels, in order. Under each title is the widest interval of its panel.
    """
    figure = Picture(figsize=(WIDE, 3.1), layout="constrained")
    for ax, (title, frame) in zip(_panels(figure, len(frames), shared=True), frames.items(), strict=True):
        order = list(names)
        grid = np.full((len(order), len(order)), np.nan)
        for _, number in frame.iterrows():
            grid[order.index(number["row"]), order.index(number["metric"])] = number["value"]
        ax.imshow(grid[1:, :-1], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(grid[1:, :-1]):
            if not np.isnan(value):
                colour = "white" if abs(value) > 0.7 else "black"
                ax.text(x, y, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", color=colour)
        labels = list(names.values())
        ax.set_xticks(range(len(order) - 1), labels[:-1], rotation=30, ha="right")
        ax.set_yticks(range(len(order) - 1), labels[1:])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        half = ((frame["high"] - frame["low"]) / 2).max()
        ax.set_title(f"{title}\n95 % intervals (Fisher z) of at most ±{half:.2f}")
    return figure


def skills(probed: pd.DataFrame, means: pd.DataFrame, titles: Mapping[str, str]) -> Picture:
    """One panel a metric of `titles`, one line a category: each base (column seed) a marker, the mean over bases a
    vertical stroke with its interval (tidy frame `means`, empty for one base). In percent.
    """
    categories = list(dict.fromkeys(probed["category"]))
    seeds = sorted(set(probed["seed"]))
    styles = looks(f"base {seed}" for seed in seeds)
    figure = Picture(figsize=(WIDE, 1.2 + 0.22 * len(categories)), layout="constrained")
    for ax, (metric, title) in zip(_panels(figure, len(titles), shared=True), titles.items(), strict=True):
        for _, mean in means[means["metric"] == metric].iterrows():
            y = categories.index(mean["row"])
            # A t interval of few bases knows nothing of the ends of the scale.
            ax.hlines(y, max(mean["low"], 0), min(mean["high"], 100), color="0.65", linewidth=3, zorder=1)
            ax.vlines(mean["value"], y - 0.3, y + 0.3, color="black", linewidth=1.2, zorder=2)
        # a little apart, so that bases of equal skill do not hide one another
        for (name, look), seed, apart in zip(styles.items(), seeds, np.linspace(-0.22, 0.22, len(seeds)), strict=True):
            own = probed[probed["seed"] == seed]
            places = [categories.index(category) + apart for category in own["category"]]
            ax.scatter(100 * own[metric], places, s=18, marker=look.marker, color=look.colour, label=name, zorder=3)
        ax.set_xlim(-3, 103)
        ax.set_xlabel("right core, %")
        ax.set_title(title)
        ax.grid(axis="x", color="0.92", linewidth=0.6)
        ax.set_axisbelow(True)
    figure.axes[0].set_yticks(range(len(categories)), categories)
    figure.axes[0].set_ylim(len(categories) - 0.5, -0.5)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if not means.empty:
        handles.append(Line2D([], [], color="0.65", linewidth=3, label="mean"))
        labels.append(f"mean; bar: {_bases(means)}; cut at 0 and 100")
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def waterfall(frame: pd.DataFrame, *, unit: str) -> Picture:
    """What each step drops of all rows, from the tidy frame of a waterfall: rows are steps with metrics "dropped" and
    "repaired" in percent, and a last row "kept" with metric `unit`. Whiskers are the intervals of the dropped shares.
    """
    steps = [row for row in dict.fromkeys(frame["row"]) if row != "kept"]
    figure = Picture(figsize=(WIDE, 1.0 + 0.32 * (len(steps) + 1)), layout="constrained")
    ax = figure.subplots()
    left = 100.0
    for y, step in enumerate(steps):
        own = frame[frame["row"] == step].set_index("metric")
        ax.barh(y, left, color=_BAR_LIGHT, edgecolor="0.4", linewidth=0.5)
        label = "drops none"
        if "repaired" in own.index:
            repaired = own.loc["repaired"]
            ax.barh(y, repaired["value"], color="none", hatch="////", edgecolor=COLOURS["dsft"], linewidth=0.5)
            label = f"repairs {_percent(repaired)}"
        if "dropped" in own.index:
            dropped = own.loc["dropped"]
            width = dropped["value"]
            left -= width
            ax.barh(y, width, left=left, color=COLOURS["rejected"], hatch="xx", edgecolor="white", linewidth=0.5)
            ax.errorbar(left, y, xerr=[[dropped["high"] - width], [width - dropped["low"]]], **_INTERVAL)
            label = f"drops {_percent(dropped)}"
        ax.text(101, y, label, va="center", fontsize=7.5)
    kept = frame[frame["row"] == "kept"].iloc[0]
    ax.barh(len(steps), kept["value"], color=COLOURS["chosen"], edgecolor="0.4", linewidth=0.5)
    errors = [[kept["value"] - kept["low"]], [kept["high"] - kept["value"]]]
    ax.errorbar(kept["value"], len(steps), xerr=errors, **_INTERVAL)
    ax.text(101, len(steps), f"keeps {_percent(kept)}", va="center", fontsize=7.5)
    ax.set_yticks(range(len(steps) + 1), [*steps, "kept"])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(steps) + 0.6, -0.6)
    ax.set_xlim(0, 150)
    ax.set_xticks(range(0, 101, 20))
    ax.spines["bottom"].set_bounds(0, 100)
    ax.set_xlabel(f"{unit}, % of {kept['n']} drawn; whiskers: {kept['interval']}", loc="left")
    return figure


def positions(frames: Sequence[tuple[str, pd.DataFrame]]) -> Picture:
    """One panel a rule (column rule), shares of pairs by list position (column place): the first named frame as bars,
    a second one as points. An empty frame is left out.
    """
    named = [(name, frame) for name, frame in frames if not frame.empty]
    rules = list(dict.fromkeys(named[0][1]["rule"]))
    figure = Picture(figsize=(WIDE, 2.3), layout="constrained")
    handles = []
    for place, (name, frame) in enumerate(named):
        label = f"{name} (n {frame['n'].max()}; bar: {_bases(frame)})"
        handles.append(
            Patch(facecolor=_BAR_LIGHT, edgecolor="0.4", label=label)
            if place == 0
            else Line2D([], [], color=COLOURS["ddpo"], marker="s", markersize=3.5, label=label)
        )
    for ax, rule in zip(_panels(figure, len(rules), shared=True), rules, strict=True):
        for place, (_, frame) in enumerate(named):
            own = frame[frame["rule"] == rule]
            if place == 0:
                ax.bar(own["place"], own["value"], width=0.8, color=_BAR_LIGHT, edgecolor="0.4", linewidth=0.5)
                ax.errorbar(own["place"] - 0.2, own["value"], yerr=_errors(own), **_INTERVAL)
            else:
                _points(ax, own["place"] + 0.15, own, COLOURS["ddpo"], "s")
        ax.set_title("chosen:\nby all rules" if rule == "chosen" else f"rejected:\n{rule}".replace("_", " "))
        ax.set_xticks(range(4))
        ax.set_xlabel("position")
    figure.axes[0].set_ylabel("pairs, %")
    figure.legend(handles=handles, loc="outside lower left", ncols=1)
    return figure


def noise_line(ax: Axes, at: float, label: str) -> None:
    """Mark the value that the lab uses on a curve over planted noise."""
    ax.axvline(at, color=GREY, linestyle=(0, (3, 1.5)), linewidth=1)
    ax.annotate(label, (at, ax.get_ylim()[0]), xytext=(3, 4), textcoords="offset points", fontsize=7.5, color=GREY)


def small() -> tuple[Picture, Axes]:
    """An empty figure of one column's width with room for names at the ends of lines."""
    figure = Picture(figsize=(NARROW + 0.9, 2.5), layout="constrained")
    return figure, figure.subplots()


def _panels(figure: Picture, count: int, *, shared: bool = False) -> list[Axes]:
    """`count` panels side by side, one included; `shared`: with one y axis."""
    return list(np.atleast_1d(figure.subplots(1, count, sharey=shared)))


def _points(ax: Axes, x: ArrayLike, part: pd.DataFrame, colour: str, marker: str) -> None:
    """Filled markers with intervals."""
    look = {"fmt": marker, "color": colour, "markersize": 3.2, "elinewidth": 0.9}
    ax.errorbar(np.asarray(x, dtype=float), part["value"], yerr=_errors(part), **look, zorder=3)


def _errors(part: pd.DataFrame) -> np.ndarray:
    """Lengths of the whiskers below and above, shape (2, row)."""
    return np.vstack([part["value"] - part["low"], part["high"] - part["value"]]).astype(float)


def _bases(frame: pd.DataFrame) -> str:
    """What the frame's intervals are, each once."""
    return "; ".join(dict.fromkeys(frame["interval"]))


def _percent(number: pd.Series) -> str:
    return tables.estimate(dict(number)).text(".1f", unit=" %")
