"""The toy half of the family study: each preference loss over its own knob at equal trials, and methods in a row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.toy import KL, LOST, REWARD, SOURCE
from zephyr_lab.methods.recipes.toy import FamilyRuns
from zephyr_lab.reporting import tables

Results = Mapping[str, list[dict[str, Any]]]
KNOBS = {
    "DPO": "beta",
    "cDPO": "beta",
    "IPO": "tau",
    "KTO": "beta",
    "ORPO": "weight",
    "SimPO": "beta",
    "DPO + SFT term": "weight of the term",
}
QUANTITIES = {LOST: ("lost", 100.0), REWARD: ("reward", 1.0), KL: ("to_reference", 1.0)}


def stage(profile: str, seeds: int) -> Stage:
    """The toy's family stage with `seeds` toys."""
    recipe = settings.load("teaching", profile, ("toy", "knobs", "family"), FamilyRuns, seeds=seeds)
    return Stage("toy_family", "zephyr_lab.teaching.family_runs:build", recipe)


def results(profile: str, seeds: int) -> Results:
    """What the stage wrote; built now where it is missing."""
    return files.read_json(get(stage(profile, seeds)) / "results.json")


def best_trials(found: Results, section: str, *, n: int) -> pd.DataFrame:
    """Tidy frame: of each method's equal number of trials the one that loses least on average, a row a method.

    `section`: "known" (all preferences) or "drawn". The true objective picks, which only a toy has: what is compared is
    how good each method can be, not how well its knob can be found. The row's name tells the knob's value.
    """
    rows = []
    for method in dict.fromkeys(row["method"] for row in found[section]):
        tried = [row for row in found[section] if row["method"] == method]
        best = min(tried, key=lambda row: float(np.mean(row["lost"])))
        name = f"{method}, {KNOBS[method]} {best['value']:g}"
        for metric, (quantity, scale) in QUANTITIES.items():
            values = [scale * value for value in best[quantity]]
            rows += seed_means.number(name, metric, values, n=n, source=SOURCE)
    return tables.frame(rows)


def lines(found: Results, section: str) -> pd.DataFrame:
    """Mean reward over mean KL to the reference along each method's knob: columns series, value, x, y."""
    rows = [
        {
            "series": row["method"],
            "value": row["value"],
            "x": float(np.mean(row["to_reference"])),
            "y": float(np.mean(row["reward"])),
        }
        for row in found[section]
    ]
    return pd.DataFrame(rows)


def frontier(found: Results) -> pd.DataFrame:
    """The same of the optimum at every strength of the penalty, above which no policy lies."""
    means = [{"x": np.mean(row["to_reference"]), "y": np.mean(row["reward"])} for row in found["frontier"]]
    return pd.DataFrame(means, dtype=float)


def later(found: Results) -> pd.DataFrame:
    """Lost share in % over the steps of a second method after DPO: columns series, x, y, low, high."""
    parts = []
    for method in dict.fromkeys(row["method"] for row in found["later"]):
        chosen = [row for row in found["later"] if row["method"] == method]
        by_toy = 100 * np.array([row["lost"] for row in chosen]).T
        parts.append(seed_means.curve(method, [row["step"] for row in chosen], list(by_toy), kind="retrained"))
    return pd.concat(parts, ignore_index=True)


def after_dpo(found: Results, *, n: int) -> pd.DataFrame:
    """Tidy frame: lost share in % after the second method less that after DPO alone, paired by toy."""
    rows = []
    for method in dict.fromkeys(row["method"] for row in found["later"]):
        rows += seed_means.number(method, "lost share, % after - before", _changes(found, method), n=n, source=SOURCE)
    return tables.frame(rows)


def effects(found: Results, *, n: int) -> pd.DataFrame:
    """S1-21 for `check.claims`: what ORPO as a phase after DPO adds to the lost share, in %, paired by toy."""
    metric = "lost share, %: DPO then ORPO - DPO"
    return pd.DataFrame([seed_means.effect("S1-21", metric, _changes(found, "DPO, then ORPO"), n=n)])


def _changes(found: Results, method: str) -> Sequence[float]:
    way = [row["lost"] for row in found["later"] if row["method"] == method]
    return [100 * (after - before) for before, after in zip(way[0], way[-1], strict=True)]
