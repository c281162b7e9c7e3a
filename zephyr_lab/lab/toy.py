"""The exact toy as a study: every method against its derived point and the known optimum, and what few preferences do.

One stage computes all seeds at once (a toy a seed); everything here reads its plain numbers.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.numbers import Known
from zephyr_lab.methods.recipes.toy import MethodKnobs, ToyRuns, ToySize
from zephyr_lab.reporting import tables

SOURCE = "exact toy"
Results = Mapping[str, list[dict[str, Any]]]
RLHF = ("DPO", "reward model", "policy gradient", "RLOO", "PPO")  # what should end at the optimum
LOST, DISTANCE, REWARD, KL = "lost, %", "KL to the optimum", "reward", "KL to the reference"
QUANTITIES = {LOST: ("lost", 100.0), DISTANCE: ("to_optimum", 1.0), REWARD: ("reward", 1.0), KL: ("to_reference", 1.0)}
DPO_END, REWARD_END = "DPO, to the end", "reward model, to the end"
STOPPED, PENALISED, LOOSE = "DPO, stopped early", "DPO, penalised", "log-ratio without reference"
FLOOR = 1e-16
CLOSE_ENOUGH = 1e-6  # nats: what "reaches the point" means


def size(profile: str) -> ToySize:
    return settings.load("teaching", profile, "toy", ToySize)


def knobs(profile: str) -> MethodKnobs:
    return settings.load("teaching", profile, "knobs", MethodKnobs)


def stage(profile: str, seeds: int) -> Stage:
    """The toy's main stage with `seeds` toys."""
    recipe = settings.load("teaching", profile, ("toy", "knobs", "runs"), ToyRuns, seeds=seeds)
    return Stage("toy", "zephyr_lab.teaching.toy_runs:build", recipe)


def results(profile: str, seeds: int) -> Results:
    """What the stage wrote; built now where it is missing."""
    return files.read_json(get(stage(profile, seeds)) / "results.json")


def points(found: Results, *, prompts: int) -> pd.DataFrame:
    """Tidy frame of where each method ends with everything known: `QUANTITIES`, a row a method; n: prompts of a toy.

    What lies within 1e-9 of 0 is written as 0; `known_points` holds it to its true size.
    """
    rows = []
    for row in found["points"]:
        for metric, (name, scale) in QUANTITIES.items():
            values = [0.0 if abs(value) < 1e-9 else scale * value for value in row[name]]
            rows += _number(row["method"], metric, values, n=prompts)
    return tables.frame(rows)


def known_points(found: Results) -> list[Known]:
    """What must be so: each method at its derived point, and RLHF's at the optimum, in nats of KL."""
    known = [
        Known(f"{row['method']}: KL from its derived point to where it ends", max(row["to_point"]), 0.0, CLOSE_ENOUGH)
        for row in found["points"]
    ]
    known += [
        Known(f"{row['method']}: KL to the optimum", max(row["to_optimum"]), 0.0, CLOSE_ENOUGH)
        for row in found["points"]
        if row["method"] in RLHF
    ]
    twins = [max(row["twin"]) for row in found["preferences"] if row["arm"] == DPO_END]
    return [*known, Known("DPO less reward model with closed form, log-probs at any step", max(twins), 0.0, 1e-9)]


def convergence(found: Results) -> pd.DataFrame:
    """KL to the optimum at each step, geometric mean over toys: columns series, x, y, low, high."""
    methods = list(dict.fromkeys(row["method"] for row in found["curves"]))
    return pd.concat([_curve(found["curves"], "method", method, "kl") for method in methods], ignore_index=True)


def preferences(found: Results) -> pd.DataFrame:
    """Tidy frame: share of the achievable gain that is lost, in %, a row an arm and a metric a count of preferences."""
    rows = []
    for row in found["preferences"]:
        values = [100 * value for value in row["lost"]]
        rows += _number(row["arm"], f"{row['count']:,} preferences", values, n=row["count"])
    return tables.frame(rows)


def by_count(found: Results) -> pd.DataFrame:
    """The same for a figure on log scales, geometric means: columns series (arm), x (count), y, low, high, in %."""
    arms = list(dict.fromkeys(row["arm"] for row in found["preferences"]))
    return pd.concat(
        [_curve(found["preferences"], "arm", arm, "lost", x="count", scale=100.0) for arm in arms], ignore_index=True
    )


def by_step(found: Results, quantity: str, *, scale: float = 1.0) -> pd.DataFrame:
    """`quantity` ("lost", "train", "held_out") on DPO's way, geometric means, a series a count of preferences."""
    counts = list(dict.fromkeys(row["count"] for row in found["paths"]))
    lines = [
        _curve(found["paths"], "count", count, quantity, scale=scale).assign(series=f"{count:,}") for count in counts
    ]
    return pd.concat(lines, ignore_index=True)


def by_penalty(found: Results) -> pd.DataFrame:
    """Lost share in % by the penalty on rewards, geometric means, a series a count of preferences."""
    counts = list(dict.fromkeys(row["count"] for row in found["penalties"]))
    lines = [
        _curve(found["penalties"], "count", count, "lost", x="penalty", scale=100.0).assign(series=f"{count:,}")
        for count in counts
    ]
    return pd.concat(lines, ignore_index=True)


def draws(found: Results, *, prompts: int) -> pd.DataFrame:
    """Tidy frame: RLOO on the true reward, KL to the optimum and lost share by answers drawn."""
    rows = []
    for row in found["draws"]:
        name = f"RLOO, {row['draws']:,} answers"
        rows += _number(name, DISTANCE, row["kl"], n=prompts)
        rows += _number(name, LOST, [100 * value for value in row["lost"]], n=prompts)
    return tables.frame(rows)


def effects(found: Results, *, prompts: int) -> pd.DataFrame:
    """S1-17 and S1-23 for `check.claims`, paired by toy.

    S1-17: lost share in % without reference and sigmoid less that of DPO, at the largest count of preferences. S1-23:
    KL from the minimum of DPO's loss, all preferences known, to the closed form of KL-regularised reward maximisation.
    """
    largest = max(row["count"] for row in found["preferences"])
    reached = next(row["to_optimum"] for row in found["points"] if row["method"] == "DPO")
    lost = {row["arm"]: row["lost"] for row in found["preferences"] if row["count"] == largest}
    gaps = [100 * (loose - dpo) for loose, dpo in zip(lost[LOOSE], lost[DPO_END], strict=True)]
    return pd.DataFrame(
        [
            seed_means.effect("S1-17", "lost share, %: without reference - DPO", gaps, n=largest),
            seed_means.effect("S1-23", "KL from DPO's minimum to the closed form", reached, n=prompts),
        ]
    )


_number = partial(seed_means.number, source=SOURCE)


def _curve(
    rows: Iterable[Mapping[str, Any]], name: str, key: Any, quantity: str, *, x: str = "step", scale: float = 1.0
) -> pd.DataFrame:
    """A line over `x` of the rows whose `name` is `key`: geometric mean over toys, t interval of the logarithms.

    What double precision cannot tell from 0 counts as `FLOOR`.
    """
    chosen = [row for row in rows if row[name] == key]
    by_toy = np.log(np.maximum([row[quantity] for row in chosen], FLOOR)).T
    logs = seed_means.curve(str(key), [row[x] for row in chosen], list(by_toy), kind="retrained")
    ends = ["y", "low", "high"]
    return logs.assign(**(scale * np.exp(logs[ends])))
