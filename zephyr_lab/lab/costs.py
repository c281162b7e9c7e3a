"""What trainings cost here, and how the lean losses compare with other implementations.

Seconds are those that the store kept when a training ran; ratios are those that `make bench` committed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.ticker import NullFormatter, ScalarFormatter

from zephyr_lab.core import files, paths, session
from zephyr_lab.engine import store
from zephyr_lab.engine.scheduler import get, get_many, metrics
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.answer_scores import SOURCE
from zephyr_lab.lab.arms import Arm
from zephyr_lab.reporting import tables
from zephyr_lab.reporting.style import GREY, LOOKS, Picture

RESULTS = "benchmarks/results.json"
SECONDS, STEPS, A_STEP = "CPU seconds", "steps", "CPU ms a step"
WIDE, ROW, MARGIN = 6.9, 0.21, 0.95  # inches
TICKS = (0.5, 1, 2, 3, 5, 10, 20, 50, 100)


class Ratio(NamedTuple):
    """How many times ours a contender takes in one case of a benchmark, with the least and most of its rounds."""

    benchmark: str
    case: str
    contender: str
    value: float
    low: float
    high: float
    memory: float | None


def measured(arms: Mapping[str, Arm]) -> pd.DataFrame:
    """Tidy frame, of the training of each arm: CPU seconds of the whole stage, loading and held-out measures included;
    steps; and one by the other. Trains what is missing."""
    get_many(stage for arm in arms.values() for stage in arm.stages())
    rows: list[dict[str, Any]] = []
    for name, arm in arms.items():
        spent = [store.end_record(get(stage))["cpu_seconds"] for stage in arm.stages()]
        # as the training counted them, or as its recipe says
        steps = [metrics(stage).get("steps") or float(stage.recipe.steps) for stage in arm.stages()]
        a_step = [1000 * seconds / count for seconds, count in zip(spent, steps, strict=True)]
        for metric, values in ((SECONDS, spent), (STEPS, steps), (A_STEP, a_step)):
            rows += seed_means.number(name, metric, values, n=int(steps[0]), source=SOURCE)
    return tables.frame(rows)


def benchmarks() -> dict[str, Any]:
    """The committed benchmarks by name, as `benchmarks/run.py` writes them; nothing where there is no such file."""
    path = paths.project_root() / RESULTS
    session.read_file(path if path.is_file() else None, name=RESULTS)
    return files.read_json(path) if path.is_file() else {}


def ratios(benchmarks: Mapping[str, Any]) -> list[Ratio]:
    """Every contender of every case but ours, by how many times our seconds it takes; memory: its peak over ours."""
    listed = []
    for name, one in benchmarks.items():
        report = one["report"]
        peaks = {row["case"]: row["peak"] for row in report["rows"] if row["contender"] == report["ours"]}
        for row in report["rows"]:
            if row["contender"] != report["ours"] and row["ratio"] is not None:
                own = peaks[row["case"]]
                memory = row["peak"] / own if own and row["peak"] else None
                listed.append(Ratio(name, row["case"], row["contender"], *row["ratio"], memory))
    return listed


def shown(ratios: list[Ratio]) -> pd.DataFrame:
    """The ratios in words, one row a contender."""
    return pd.DataFrame([
        {
            "benchmark": one.benchmark,
            "case": one.case,
            "contender": one.contender,
            "time over ours": f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})",
            "peak memory over ours": "" if one.memory is None else f"{one.memory:.1f}",
        }
        for one in ratios
    ])  # fmt: skip


def closest(ratios: list[Ratio]) -> pd.DataFrame:
    """The fastest contender of each benchmark, as `Lab.report` prints it: how many times our seconds it takes."""
    best = {name: min(own, key=lambda one: one.value) for name, own in _by_benchmark(ratios).items()}
    return pd.DataFrame([
        {
            "row": f"{one.benchmark}, {one.case}: {one.contender}",
            "metric": "CPU seconds over ours",
            "value": one.value,
            "low": one.low,
            "high": one.high,
            "interval": "least and most of the rounds",
        }
        for one in best.values()
    ])  # fmt: skip


def gates(benchmarks: Mapping[str, Any]) -> pd.DataFrame:
    """What each benchmark must reach, what it reached, and where it should get to."""
    return pd.DataFrame([
        {
            "benchmark": name,
            "gate": gate["name"],
            "measured": f"{gate['value']:.3g}",
            "must be": f"{'>=' if gate['is_least'] else '<='} {gate['bound']:.3g}",
            "aim": "" if gate["aim"] is None else f"{gate['aim']:.3g}",
            "reached": gate["met"],
        }
        for name, one in benchmarks.items()
        for gate in one["report"]["gates"]
    ])  # fmt: skip


def failing(benchmarks: Mapping[str, Any]) -> int:
    """How many committed gates do not hold."""
    return sum(not gate["holds"] for one in benchmarks.values() for gate in one["report"]["gates"])


def speed_ups(ratios: Sequence[Ratio]) -> Picture:
    """Seconds of others over ours, a panel a benchmark, a dot a contender, logarithmic; bar: least and most of rounds.

    Right of the line at 1 ours is faster. Without ratios a page that says so.
    """
    if not ratios:
        picture = Picture(figsize=(WIDE, 1.0))
        picture.text(0.5, 0.5, "no benchmark is committed here: `make bench` measures them", ha="center", va="center")
        return picture
    panels = _by_benchmark(ratios)
    picture = Picture(figsize=(WIDE, MARGIN + 0.3 * len(panels) + ROW * len(ratios)), layout="constrained")
    heights = [len(own) for own in panels.values()]
    axes = picture.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    look = LOOKS["ddpo"]
    for ax, (name, own) in zip(axes, panels.items(), strict=True):
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
    low, high = min(one.low for one in ratios), max(one.high for one in ratios)
    axes[-1].set_xscale("log")
    axes[-1].set_xticks([tick for tick in TICKS if 0.8 * low <= tick <= 1.2 * high])
    axes[-1].xaxis.set_major_formatter(ScalarFormatter())
    axes[-1].xaxis.set_minor_formatter(NullFormatter())
    axes[-1].set_xlabel("CPU seconds over ours (bar: least and most of the rounds)")
    return picture


def _by_benchmark(ratios: Sequence[Ratio]) -> dict[str, list[Ratio]]:
    names = dict.fromkeys(one.benchmark for one in ratios)
    return {name: [one for one in ratios if one.benchmark == name] for name in names}
