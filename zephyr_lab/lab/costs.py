"""Notebook 50: what each recipe costs here, and how the lean losses compare with other implementations.

Seconds are those that the store kept when a training ran; ratios are those that `make bench` committed.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from zephyr_lab.core import files, paths, session, settings
from zephyr_lab.engine import store
from zephyr_lab.engine.scheduler import get, get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import domain_alignment, draft_stages, kd_stages, rlhf_stages, zephyr_stages
from zephyr_lab.lab.domain_alignment import AlignmentSettings
from zephyr_lab.lab.kd_scale import ALPHA_2X
from zephyr_lab.reporting import tables

RESULTS = "benchmarks/results.json"
SECONDS, STEPS, A_STEP = "CPU seconds", "steps", "CPU ms a step"


class Ratio(NamedTuple):
    """How many times ours a contender takes in one case of a benchmark, with the least and most of its rounds."""

    benchmark: str
    case: str
    contender: str
    value: float
    low: float
    high: float
    memory: float | None


def recipes(profile: str, seed: int) -> dict[str, Stage]:
    """A training of each recipe, in the order of the notebooks that use them, which have trained it already."""
    arms = settings.load("kd_dae", profile, "alignment", AlignmentSettings)
    starts = domain_alignment.starts(profile, seed)
    aligned = domain_alignment.aligned(profile, seed, starts, arms, kd_stages.domain_expert(profile))
    reward = rlhf_stages.reward(profile, seed)
    learned = rlhf_stages.Scene(reward_model=reward)
    return {
        "dSFT": zephyr_stages.dsft(profile, seed),
        "dDPO": zephyr_stages.ddpo(profile, seed),
        "KD, both losses": kd_stages.kd(profile, seed),
        "KD, prediction alone": kd_stages.kd(profile, seed, attention_weight=0.0),
        "KD at scale, 2x student": starts[ALPHA_2X].stage,
        "DAE": aligned[domain_alignment.BETA].stage,
        "DAE, 2x student": aligned[domain_alignment.BETA_2X].stage,
        "draft, stage 1": draft_stages.stage_1(profile, seed).stage,
        "reward model": reward,
        "DPO": rlhf_stages.dpo(profile, seed),
        "online DPO": rlhf_stages.online_dpo(profile, seed),
        "reward model + PPO": rlhf_stages.ppo(profile, seed, learned),
        "reward model + RLOO": rlhf_stages.policy_gradient(profile, seed, learned),
    }


def measured(profile: str, seeds: int) -> pd.DataFrame:
    """Tidy frame: CPU seconds of whole stages, loading and held-out measures included; steps; and one by the other."""
    made = [recipes(profile, seed) for seed in range(seeds)]
    get_many(stage for one in made for stage in one.values())
    rows: list[dict[str, Any]] = []
    for name in made[0]:
        spent = [_cpu_seconds(one[name]) for one in made]
        steps = [_steps(one[name]) for one in made]
        a_step = [1000 * seconds / count for seconds, count in zip(spent, steps, strict=True)]
        for metric, values in ((SECONDS, spent), (STEPS, steps), (A_STEP, a_step)):
            rows += scores.counted(name, metric, values, n=int(steps[0]))
    return tables.frame(rows)


def benchmarks() -> dict[str, Any]:
    """The committed benchmarks by name, as `benchmarks/run.py` writes them; nothing where there is no such file."""
    path = paths.project_root() / RESULTS
    session.read_file(path if path.is_file() else None, name=RESULTS)
    return files.read_json(path) if path.is_file() else {}


def ratios(found: Mapping[str, Any]) -> list[Ratio]:
    """Every contender of every case but ours, by how many times our seconds it takes; memory: its peak over ours."""
    made = []
    for name, one in found.items():
        report = one["report"]
        peaks = {row["case"]: row["peak"] for row in report["rows"] if row["contender"] == report["ours"]}
        for row in report["rows"]:
            if row["contender"] != report["ours"] and row["ratio"] is not None:
                own = peaks[row["case"]]
                memory = row["peak"] / own if own and row["peak"] else None
                made.append(Ratio(name, row["case"], row["contender"], *row["ratio"], memory))
    return made


def shown(found: list[Ratio]) -> pd.DataFrame:
    """The ratios in words, one row a contender."""
    return pd.DataFrame([
        {
            "benchmark": one.benchmark,
            "case": one.case,
            "contender": one.contender,
            "time over ours": f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})",
            "peak memory over ours": "" if one.memory is None else f"{one.memory:.1f}",
        }
        for one in found
    ])  # fmt: skip


def gates(found: Mapping[str, Any]) -> pd.DataFrame:
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
        for name, one in found.items()
        for gate in one["report"]["gates"]
    ])  # fmt: skip


def failing(found: Mapping[str, Any]) -> int:
    """How many committed gates do not hold."""
    return sum(not gate["holds"] for one in found.values() for gate in one["report"]["gates"])


def _cpu_seconds(stage: Stage) -> float:
    """What the worker of a finished training took for it."""
    return store.end_record(get(stage))["cpu_seconds"]


def _steps(stage: Stage) -> float:
    """Optimiser steps of a finished training: as it counted them, or as its recipe says."""
    return metrics(stage).get("steps") or float(stage.recipe.steps)
