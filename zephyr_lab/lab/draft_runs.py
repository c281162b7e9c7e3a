"""Notebook 31's runs: every arm of adapting a draft to fine-tuned targets, trained, scored and timed.

Every seed has its own targets, drafts and data; all start from one base. Math has the whole grid of parts and data,
selection, curves and wall time; code and clinic have the published rows and the controls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import draft_arms as arms
from zephyr_lab.lab import draft_stages as stages
from zephyr_lab.lab import draft_tau as tau
from zephyr_lab.lab.draft_arms import EDA, EDA_OURS, FULL, SELECTED, TRAINING_FREE
from zephyr_lab.lab.draft_stages import DPO, MATH, PAPER, REGENERATED, Draft

TIMED = (TRAINING_FREE, FULL, EDA_OURS)
CONTROL = arms.name(FULL, SELECTED)  # what the paper's tables lack


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """How wall time is measured, where it differs from [scores]: fields of `DraftScores`; see there."""

    loop_prompts: int
    loop_length: int
    extra_layers: int
    samples: int
    tree_top: int
    tree_depth: int
    tree_nodes: int
    rows_at_once: int


@dataclass(frozen=True)
class Adaptation:
    """All arms, trained and scored. scored: frames of `draft_tau` by target; speed: timings of math's arms; trained:
    stages by target, one list a seed; clock: the column of speed that time is read from."""

    of: arms.ArmSettings
    scored: dict[str, pd.DataFrame]
    speed: pd.DataFrame
    costs: pd.DataFrame
    trained: dict[str, list[list[Stage]]]
    seeds: int
    steps: int
    kept_steps: tuple[int, ...]
    clock: str


def adaptation(profile: str, seeds: int) -> Adaptation:
    """Train and score every arm under seeds 0 to `seeds` - 1."""
    of = arms.load(profile)
    drafts = {name: [drafts_of(profile, seed, name, of) for seed in range(seeds)] for name in stages.targets(profile)}
    stage_2 = drafts[MATH][0][FULL].stage.recipe
    scores = {
        name: [stages.scores(profile, seed, name, one) for seed, one in enumerate(found)]
        for name, found in drafts.items()
    }
    timed = [_timed(profile, seed, one) for seed, one in enumerate(drafts[MATH])]
    get_many([stage for one in scores.values() for stage in one])  # at once, so that no core waits
    timings, costs = _speed(timed)
    return Adaptation(
        of=of,
        scored={name: tau.read(one) for name, one in scores.items()},
        speed=timings,
        costs=costs,
        trained={
            name: [list({id(draft.stage): draft.stage for draft in one.values()}.values()) for one in found]
            for name, found in drafts.items()
        },
        seeds=seeds,
        steps=stage_2.steps,
        kept_steps=stage_2.keep_at,
        clock="cpu_seconds" if stage_2.device == "cpu" else "seconds",
    )


def drafts_of(profile: str, seed: int, name: str, of: arms.ArmSettings) -> dict[str, Draft]:
    """Every draft of a target on one seed, by row."""
    if name == DPO:
        wanted = [arms.training_free(), *(arms.arm(part, REGENERATED, of) for part in (FULL, EDA))]
        return stages.adapted(profile, seed, name, wanted, keep_at=())
    if name != MATH:
        return stages.adapted(profile, seed, name, arms.table_arms(of), keep_at=())
    main = stages.adapted(profile, seed, name, arms.grid(of))
    curve = {
        at_step(row, step): Draft(main[row].stage, f"{row}/steps/{step}") for row in (FULL, EDA_OURS, CONTROL)
        for step in main[row].stage.recipe.keep_at
    }  # fmt: skip
    further = [*arms.selection_arms(of), *arms.size_arms(of), arms.from_nothing()]
    return {**main, **curve, **stages.adapted(profile, seed, name, further, keep_at=())}


def at_step(row: str, step: int) -> str:
    """The name of an arm's draft after `step` of its steps."""
    return f"{row} after {step} steps"


def trained_parameters(done: Adaptation, name: str = MATH) -> dict[str, float]:
    """Trained parameters by arm; the same under every seed."""
    return reported(done, name, "parameters")[0]


def training_seconds(done: Adaptation, name: str = MATH) -> dict[str, list[float]]:
    """CPU seconds of training by arm, one value a seed."""
    found = reported(done, name, "seconds")
    return {row: [one[row] for one in found] for row in found[0]}


def reported(done: Adaptation, name: str, metric: str) -> list[dict[str, float]]:
    """What each arm's training reported, a dict a seed."""
    found = []
    for made in done.trained[name]:
        of_target = {key: value for stage in made for key, value in metrics(stage).items()}
        ending = f"/{metric}"
        found.append({key.removesuffix(ending): value for key, value in of_target.items() if key.endswith(ending)})
    return found


def tau_over_steps(done: Adaptation, row: str) -> list[list[float]]:
    """tau of an arm before its first step, after each kept number of steps, and at the end; values by seed."""
    scored = done.scored[MATH]
    names = [TRAINING_FREE, *(at_step(row, step) for step in done.kept_steps), row]
    return [tau.by_seed(scored, name, temperature=0) for name in names]


def _timed(profile: str, seed: int, drafts: Mapping[str, Draft]) -> Stage:
    table = settings.load(PAPER, profile, "speed", SpeedSettings)
    wanted = {row: drafts[row] for row in TIMED}
    return stages.scores(profile, seed, MATH, wanted, timed=True, prompts=table.loop_prompts, **vars(table))


def _speed(timed: Sequence[Stage]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Timings and costs of the timed stages, one stage a seed."""
    found = [files.read_json(folder / "speed.json") for folder in get_many(timed)]
    timings, costs = (
        pd.concat([pd.DataFrame({"seed": seed, **one[key]}) for seed, one in enumerate(found)], ignore_index=True)
        for key in ("timings", "costs")
    )
    return timings, costs
