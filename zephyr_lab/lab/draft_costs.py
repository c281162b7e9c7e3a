"""What adapting a draft costs and what it saves: trained parameters, seconds, time to equal tau, speed of decoding."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from zephyr_lab.lab import draft_arms as arms
from zephyr_lab.lab import draft_tau as tau
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.draft_arms import EDA_OURS, FULL
from zephyr_lab.lab.draft_runs import (
    TIMED,
    Adaptation,
    reported,
    tau_over_steps,
    trained_parameters,
    training_seconds,
)
from zephyr_lab.lab.draft_stages import MATH, PAPER
from zephyr_lab.reporting import published, tables

SPEEDUP = "avg_speedup"
SHARES = {
    "share_of_draft": "of the draft",
    "share_with_embedding": "with the embedding",
    "share_of_full_width": "of a draft with full-width private experts",
}


def cost(done: Adaptation) -> pd.DataFrame:
    """Cost of adapting: trained parameters, three ways to count their share, and CPU seconds.

    The published sizes are in millions of parameters (their sources print MB), the times in hours on four GPUs.
    """
    counts, seconds = trained_parameters(done), training_seconds(done)
    rows = {"Full-FT": FULL, "EDA": EDA_OURS, "LoRA": arms.LORA}
    lines: list[dict[str, Any]] = []
    for row, arm in rows.items():
        lines.append(_exact(row, "trained parameters, thousands", counts[arm] / 1000, done))
        lines += [
            _exact(row, f"share, {words}, %", 100 * _shares_of(done, arm)[key], done) for key, words in SHARES.items()
        ]
        lines += seed_means.number(row, "CPU seconds", seconds[arm], n=done.steps)
    printed = published.wide(PAPER, "cost").set_index("method")
    theirs = tables.frame(
        {"row": row, "metric": metric, "kind": "quoted", "value": float(printed.loc[row, column]), "source": "quoted"}
        for row in printed.index
        for metric, column in (("hours", "hours"), ("trained size, millions", "trained_size"))
    )
    return tables.side_by_side(tables.frame(lines), theirs)


def time_to_equal(done: Adaptation, row: str = EDA_OURS, than: str = FULL) -> list[float]:
    """Time of `row` to the tau that both reach, over that of `than`, less 1; one value a seed.

    That tau is the lower of the two at the end; between measured steps tau is taken as straight.
    """
    ratios = []
    seconds = training_seconds(done)
    steps = [float(step) for step in (0, *done.kept_steps, done.steps)]
    ours, theirs = tau_over_steps(done, row), tau_over_steps(done, than)
    for seed in range(done.seeds):
        curves = [[values[seed] for values in one] for one in (ours, theirs)]
        wanted = min(curve[-1] for curve in curves)
        first, second = (
            crossing(steps, curve, wanted) * seconds[arm][seed] for curve, arm in zip(curves, (row, than), strict=True)
        )
        ratios.append(first / second - 1)
    return ratios


def crossing(x: Sequence[float], y: Sequence[float], level: float) -> float:
    """The first place where the broken line through (x, y) reaches `level`. Raises ValueError where it never does."""
    for place in range(len(x)):
        if y[place] >= level:
            if place == 0:
                return float(x[0])
            share = (level - y[place - 1]) / (y[place] - y[place - 1])
            return float(x[place - 1] + share * (x[place] - x[place - 1]))
    raise ValueError(f"the line never reaches {level}, its highest point is {max(y)}")


def speedups(done: Adaptation, temperature: int) -> list[dict[str, Any]]:
    """Speed-up of the timed arms: tokens a second with the draft over without, both orders of prompts together.

    By the process's time on the CPU, where the models run there: neighbours on a shared machine disturb it least; else
    by wall time.
    """
    timed = done.speed[(done.speed["rule"] == tau.RULES[temperature]) & (done.speed["method"] == "chain")]
    lines = []
    for row in TIMED:
        values = [_speedup(part, done.clock) for _, part in timed[timed["draft"] == row].groupby("seed")]
        lines += seed_means.number(row, SPEEDUP, values, n=int(timed["order"].nunique()))
    return lines


def step_costs(done: Adaptation) -> pd.DataFrame:
    """What a pass of the enlarged target and a step of the draft cost, in milliseconds, and their ratio."""
    chain = done.costs[done.costs["method"] == "chain"]
    lines = []
    for row in TIMED:
        own = chain[chain["draft"] == row]
        columns = {
            "target pass, ms": 1000 * own["target_pass"],
            "draft step, ms": 1000 * own["draft_step"],
            "draft steps a pass": own["target_pass"] / own["draft_step"],
            "layers added": own["extra_layers"],
        }
        for metric, values in columns.items():
            lines += seed_means.number(row, metric, [float(value) for value in values], n=1)
    return tables.frame(lines)


def _shares_of(done: Adaptation, row: str) -> dict[str, float]:
    """The trained share of an arm in three ways."""
    return {key: reported(done, MATH, key)[0][row] for key in SHARES}


def _exact(row: str, metric: str, value: float, done: Adaptation) -> dict[str, Any]:
    """A count: no chance is in it, so its interval is itself."""
    counts = {"n": 1, "seeds": done.seeds, "interval": "a count"}
    return {"row": row, "metric": metric, "kind": "retrained", "value": value, "low": value, "high": value, **counts,
            "source": seed_means.SOURCE}  # fmt: skip


def _speedup(timings: pd.DataFrame, clock: str) -> float:
    sums = timings.groupby("arm")[["tokens", clock]].sum()
    rates = sums["tokens"] / sums[clock]
    return float(rates["drafted"] / rates["plain"])
