"""Sweeps: equally many trials a method, judged by the true reward on questions and a seed that no table uses.

What a sweep found is in papers/teaching/sweep.json, with where it was made; settings.toml holds each method's best.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zephyr_lab.core import files, paths, provenance, session
from zephyr_lab.engine.scheduler import StageFailed, get, get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab.teaching import rlhf_stages
from zephyr_lab.lab.teaching.rlhf_stages import PAPER, Model

COMPARISON, FAMILY = "comparison", "family"  # the sweeps of sweep.json
SEED = 100  # no table's
START, FILE = "start", "sweep.json"
COLUMNS = ("method", "learning_rate", "beta", "reward", "kl")
DECIMALS = 4


class Trial(NamedTuple):
    """What one trial sets, (rate, beta) or (rate,), and the stage that trains it."""

    method: str
    values: tuple[float, ...]
    stage: Stage

    @property
    def label(self) -> str:
        """ "ppo 0.0004 0.05": the method, its learning rate and, where it has one, its beta."""
        return " ".join([self.method, *(f"{value:g}" for value in self.values)])


@dataclass(frozen=True, kw_only=True)
class Grids:
    """Rates, then betas, of each method of the comparison; methods without beta have more rates, so that all have
    equally many trials."""

    dpo_rates: tuple[float, ...]
    dpo_betas: tuple[float, ...]
    online_dpo_rates: tuple[float, ...]
    online_dpo_betas: tuple[float, ...]
    ppo_rates: tuple[float, ...]
    ppo_betas: tuple[float, ...]
    rloo_rates: tuple[float, ...]
    rloo_betas: tuple[float, ...]
    rloo_true_rates: tuple[float, ...]
    rloo_true_betas: tuple[float, ...]
    longer_dsft_rates: tuple[float, ...]
    sft_on_chosen_rates: tuple[float, ...]

    def __post_init__(self) -> None:
        require_equal_counts(self.trials)

    @property
    def trials(self) -> dict[str, list[tuple[float, ...]]]:
        """(rate, beta), or (rate,) for a method without beta, of each trial, by method."""
        trials: dict[str, list[tuple[float, ...]]] = {}
        for field in fields(rlhf_stages.Tuned):
            rates = getattr(self, f"{field.name}_rates")
            betas = getattr(self, f"{field.name}_betas", None)
            trials[field.name] = [(r,) for r in rates] if betas is None else [(r, b) for r in rates for b in betas]
        return trials


@dataclass(frozen=True, kw_only=True)
class FamilyGrids:
    """Learning rates that all losses are tried at, and the strengths of each (equally many)."""

    rates: tuple[float, ...]
    dpo: tuple[float, ...]
    ipo: tuple[float, ...]
    cdpo: tuple[float, ...]
    kto: tuple[float, ...]
    orpo: tuple[float, ...]
    simpo: tuple[float, ...]

    def __post_init__(self) -> None:
        require_equal_counts(self.trials)

    @property
    def trials(self) -> dict[str, list[tuple[float, ...]]]:
        """(rate, strength) of each trial, by loss."""
        losses = [field.name for field in fields(self) if field.name != "rates"]
        return {loss: [(rate, strength) for rate in self.rates for strength in getattr(self, loss)] for loss in losses}


def require_equal_counts(trials: Mapping[str, list[tuple[float, ...]]]) -> None:
    """Raises ValueError unless every method has the same number of trials: more tries find a better best."""
    counts = {method: len(values) for method, values in trials.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{method} {count}" for method, count in counts.items())
        raise ValueError(f"every method must have the same number of trials, got {listed}")


def run(profile: str, name: str, trials: list[Trial]) -> pd.DataFrame:
    """Train and judge the trials now; a frame as `committed` gives it, and tables/teaching/sweep_NAME.json.

    A training that stopped at a NaN loss is a trial too: it has no score, and counts as diverged.
    """
    stopped = _train(trials)
    models = {START: rlhf_stages.start(profile, SEED)}
    models |= {trial.label: Model(trial.stage) for trial in trials if trial.label not in stopped}
    folder = get(rlhf_stages.frontier(profile, SEED, models, validation=True))
    rows = {row["model"]: row for row in files.read_json(folder / "frontier.json")}
    scores = {
        label: (round(float(np.mean(row["quality"])), DECIMALS), round(float(row["kl"]), DECIMALS))
        for label, row in rows.items()
    }
    table = {
        "seed": SEED,
        "questions": len(rows[START]["quality"]),
        "start": scores[START][0],
        "trials": [
            dict(zip(COLUMNS, (trial.method, *_two(trial.values), *scores.get(trial.label, (None, None))), strict=True))
            for trial in trials
        ],
        "provenance": provenance.describe(),
    }
    path = session.current().build / "tables" / PAPER / f"sweep_{name}.json"
    files.write_json(path, {profile: {name: table}})
    session.add_product(path)
    return frame(table)


def committed(profile: str, name: str) -> pd.DataFrame:
    """The sweep that the profile's settings rest on; without a row where none was run for it.

    Columns method, learning_rate, beta, reward (true, at T = 1), kl, gain over the start, diverged (NaN, or worse than
    the start), best (of its method).
    """
    path = paths.papers_dir() / PAPER / FILE
    session.read_file(path if path.is_file() else None, name=f"papers/{PAPER}/{FILE}")
    table = files.read_json(path).get(profile, {}).get(name) if path.is_file() else None
    return frame(table or {"start": 0.0, "trials": []})


def frame(table: Mapping[str, Any]) -> pd.DataFrame:
    """The frame of `committed` from a sweep as its file has it."""
    trials = pd.DataFrame(table["trials"], columns=list(COLUMNS))
    trials[list(COLUMNS[1:])] = trials[list(COLUMNS[1:])].astype(float)
    trials["gain"] = trials["reward"] - table["start"]
    trials["diverged"] = ~(trials["gain"] >= 0)
    trials["best"] = False
    for _, own in trials.groupby("method", sort=False):
        if own["reward"].notna().any():
            trials.loc[own["reward"].idxmax(), "best"] = True
    return trials


def shown(sweep: pd.DataFrame) -> pd.DataFrame:
    """One row a method: trials, how many diverged, its best, and what a middling choice would have given."""
    if sweep.empty:
        return pd.DataFrame([{"sweep": "none was run for this profile yet; the settings are a first guess"}])
    rows = []
    for method, own in sweep.groupby("method", sort=False):
        best = own.loc[own["reward"].idxmax()] if own["reward"].notna().any() else own.iloc[0]
        rows.append({
            "method": method,
            "trials": len(own),
            "diverged": int(own["diverged"].sum()),
            "best rate": f"{best['learning_rate']:g}",
            "best beta": "" if pd.isna(best["beta"]) else f"{best['beta']:g}",
            "gain of the best, points": round(best["gain"], 2),
            "gain of the median": round(own["gain"].median(), 2),
            "KL of the best, nats": round(best["kl"], 2),
        })  # fmt: skip
    return pd.DataFrame(rows)


def winners(sweep: pd.DataFrame) -> dict[str, tuple[float, ...]]:
    """(rate, beta), or (rate,), of each method's best trial."""
    best = sweep[sweep["best"]]
    values = zip(best["method"], best["learning_rate"], best["beta"], strict=True)
    return {method: (rate,) if pd.isna(beta) else (rate, beta) for method, rate, beta in values}


def differing(sweep: pd.DataFrame, settings: Mapping[str, tuple[float, ...]]) -> int:
    """How many methods `settings` gives other values than the sweep found best; 0 for a sweep without a row."""
    return sum(tuple(settings[method]) != values for method, values in winners(sweep).items())


def _two(values: tuple[float, ...]) -> tuple[float | None, ...]:
    """Rate and beta; None for a beta that the method does not have."""
    return (*values, None)[:2]


def _train(trials: list[Trial]) -> set[str]:
    """Trains all; the labels of those that stopped at a NaN loss."""
    try:
        get_many([trial.stage for trial in trials])
        return set()
    except StageFailed:  # one by one, so that each failed trial is known by name
        stopped = set()
        for trial in trials:
            try:
                get(trial.stage)
            except StageFailed:
                stopped.add(trial.label)
        return stopped
