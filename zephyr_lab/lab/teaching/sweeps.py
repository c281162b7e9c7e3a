"""Sweeps: equally many trials a method, judged by the true reward on questions and a seed that no table uses.

What a sweep found stands in papers/teaching/sweep.json with where it was made; settings.toml holds each method's best.
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
        found: dict[str, list[tuple[float, ...]]] = {}
        for field in fields(rlhf_stages.Tuned):
            rates = getattr(self, f"{field.name}_rates")
            betas = getattr(self, f"{field.name}_betas", None)
            found[field.name] = [(r,) for r in rates] if betas is None else [(r, b) for r in rates for b in betas]
        return found


def require_equal_counts(trials: Mapping[str, list[tuple[float, ...]]]) -> None:
    """Raises ValueError unless every method has the same number of trials: more tries find a better best."""
    counts = {method: len(values) for method, values in trials.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{method} {count}" for method, count in counts.items())
        raise ValueError(f"every method must have the same number of trials, got {told}")


def run(profile: str, name: str, trials: list[Trial]) -> pd.DataFrame:
    """Train and judge the trials now; a frame as `committed` gives it, and tables/teaching/sweep_NAME.json.

    A training that was halted at a loss that is no number is a trial too: it has no score, and counts as diverged.
    """
    halted = _train(trials)
    models = {START: rlhf_stages.start(profile, SEED)}
    models |= {trial.label: Model(trial.stage) for trial in trials if trial.label not in halted}
    folder = get(rlhf_stages.frontier(profile, SEED, models, validation=True))
    found = {row["model"]: row for row in files.read_json(folder / "frontier.json")}
    scores = {label: (float(np.mean(row["quality"])), float(row["kl"])) for label, row in found.items()}
    table = {
        "seed": SEED,
        "questions": len(found[START]["quality"]),
        "start": round(scores[START][0], DECIMALS),
        "trials": [_row(trial, scores.get(trial.label)) for trial in trials],
        "provenance": provenance.describe(),
    }
    path = session.current().build / "tables" / PAPER / f"sweep_{name}.json"
    files.write_json(path, {profile: {name: table}})
    session.add_product(path)
    return frame(table)


def committed(profile: str, name: str) -> pd.DataFrame:
    """The sweep that the profile's settings rest on; without a row where none was run for it.

    Columns method, learning_rate, beta, reward (true, at T = 1), kl, gain over the start, diverged (no number, or worse
    than the start), best (of its method).
    """
    path = paths.papers_dir() / PAPER / FILE
    session.read_file(path if path.is_file() else None, name=f"papers/{PAPER}/{FILE}")
    kept = files.read_json(path).get(profile, {}).get(name) if path.is_file() else None
    return frame(kept or {"start": 0.0, "trials": []})


def frame(table: Mapping[str, Any]) -> pd.DataFrame:
    """The frame of `committed` from a sweep as it is kept."""
    found = pd.DataFrame(table["trials"], columns=list(COLUMNS))
    found[list(COLUMNS[1:])] = found[list(COLUMNS[1:])].astype(float)
    found["gain"] = found["reward"] - table["start"]
    found["diverged"] = ~(found["gain"] >= 0)
    found["best"] = False
    for _, own in found.groupby("method", sort=False):
        if own["reward"].notna().any():
            found.loc[own["reward"].idxmax(), "best"] = True
    return found


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
    return {
        row["method"]: tuple(value for value in (row["learning_rate"], row["beta"]) if not pd.isna(value))
        for _, row in best.iterrows()
    }


def differing(sweep: pd.DataFrame, given: Mapping[str, tuple[float, ...]]) -> int:
    """How many methods are `given` other values than the sweep found best; 0 for a sweep without a row."""
    return sum(tuple(given[method]) != values for method, values in winners(sweep).items())


def _train(trials: list[Trial]) -> set[str]:
    """Trains all; the labels of those that were halted."""
    try:
        get_many([trial.stage for trial in trials])
        return set()
    except StageFailed:  # one by one, so that a halted one is known by name
        halted = set()
        for trial in trials:
            try:
                get(trial.stage)
            except StageFailed:
                halted.add(trial.label)
        return halted


def _row(trial: Trial, score: tuple[float, float] | None) -> dict[str, Any]:
    reward, kl = score or (None, None)
    return {
        "method": trial.method,
        "learning_rate": trial.values[0],
        "beta": trial.values[1] if len(trial.values) > 1 else None,
        "reward": None if reward is None else round(reward, DECIMALS),
        "kl": None if kl is None else round(kl, DECIMALS),
    }
