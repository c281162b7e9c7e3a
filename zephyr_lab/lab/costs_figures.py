"""Seconds of others over ours, a panel a benchmark."""

from collections.abc import Sequence

from matplotlib.ticker import NullFormatter, ScalarFormatter

from zephyr_lab.lab.costs import Ratio
from zephyr_lab.reporting.style import GREY, LOOKS, Picture

WIDE, ROW, MARGIN = 6.9, 0.21, 0.95  # inches
TICKS = (0.5, 1, 2, 3, 5, 10, 20, 50, 100)


def speed_ups(found: Sequence[Ratio]) -> Picture:
    """A dot a contender at how many times our seconds it takes, logarithmic; bar: least and most of the rounds.

    Right of the line at 1 ours is faster. Without ratios a page that says so.
    """
    if not found:
        return _nothing_measured()
    names = list(dict.fromkeys(one.benchmark for one in found))
    counts = [sum(one.benchmark == name for one in found) for name in names]
    picture = Picture(figsize=(WIDE, MARGIN + 0.3 * len(names) + ROW * len(found)), layout="constrained")
    axes = picture.subplots(len(names), 1, sharex=True, height_ratios=counts, squeeze=False)[:, 0]
    look = LOOKS["ddpo"]
    for ax, name in zip(axes, names, strict=True):
        own = [one for one in found if one.benchmark == name]
        for place, one in enumerate(own):
            ax.plot([one.low, one.high], [place, place], color=look.colour, linewidth=1.2)
            ax.plot(one.value, place, marker="o", color=look.colour, markersize=4.5)
        ax.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
        ax.set_yticks(range(len(own)), [f"{one.case}: {one.contender}" for one in own], fontsize=6.5)
        ax.set_ylim(len(own) - 0.5, -0.5)
        ax.set_title(name, fontsize=7.5, loc="left", pad=3)
        ax.grid(color="0.92", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
    low, high = min(one.low for one in found), max(one.high for one in found)
    axes[-1].set_xscale("log")
    axes[-1].set_xticks([tick for tick in TICKS if 0.8 * low <= tick <= 1.2 * high])
    axes[-1].xaxis.set_major_formatter(ScalarFormatter())
    axes[-1].xaxis.set_minor_formatter(NullFormatter())
    axes[-1].set_xlabel("CPU seconds over ours (bar: least and most of the rounds)")
    return picture


def _nothing_measured() -> Picture:
    picture = Picture(figsize=(WIDE, 1.0))
    picture.text(0.5, 0.5, "no benchmark is committed here: `make bench` measures them", ha="center", va="center")
    return picture
