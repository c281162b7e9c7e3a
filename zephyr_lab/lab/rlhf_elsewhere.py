"""Two changes of the scene: where RLHF should beat DPO, and another objective by changing only data and judge.

Poor pairs: no answer is better than the start's own, so what is wanted must be found and not copied. Graded reward:
the judge that labels pairs for DPO gives RLOO its points, and a pair does not say by how much. Brief: the judge takes
half a point for each word.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import rlhf, rlhf_stages, seed_means
from zephyr_lab.lab.rlhf_stages import Model
from zephyr_lab.reporting import tables
from zephyr_lab.world.objectives import BRIEF, QUALITY

START = rlhf.START
POOR_DPO, POOR_RLOO = "DPO, poor pairs", "reward model + RLOO, poor pairs"
JUDGED_DPO, GRADED_RLOO, ONLINE = "DPO, the judge's pairs", "RLOO, the judge's points", "online DPO, the judge's labels"
BRIEF_DPO, BRIEF_RLOO = "DPO, brief", "RLOO, brief"
MEASURES = {"quality": "true reward", "brief": "points less words", "words": "words", "kl": "KL, nats"}
# What RLHF should win by, and against what: row -> (RLHF, DPO).
CONTESTS = {
    "poor pairs: reward model + RLOO - DPO": (POOR_RLOO, POOR_DPO),
    "graded: RLOO on points - DPO on the same judge's pairs": (GRADED_RLOO, JUDGED_DPO),
    "on-policy: online DPO - DPO on the same judge's pairs": (ONLINE, JUDGED_DPO),
}


@dataclass(frozen=True)
class Elsewhere:
    """A row a seed and policy: arm, kl, quality, brief, words, win; `questions` that each is a mean over."""

    points: pd.DataFrame
    questions: int


def elsewhere(profile: str, seeds: int) -> Elsewhere:
    """Train and measure the arms under seeds 0 to `seeds` - 1; what the comparison trained is used as it is."""
    asked = [
        rlhf_stages.frontier(
            profile, seed, {START: rlhf_stages.start(profile, seed), **_models(profile, seed)}
        )
        for seed in range(seeds)
    ]  # fmt: skip
    folders = get_many(asked)
    points = [read(folder / "frontier.json", seed) for seed, folder in enumerate(folders)]
    return Elsewhere(pd.concat(points, ignore_index=True), 2 * asked[0].recipe.questions)


def models(profile: str, seed: int) -> dict[str, Stage]:
    """The training of each arm."""
    poor = rlhf_stages.pairs(profile, seed, table="poor_pairs")
    reward = rlhf_stages.reward(profile, seed, data=poor)
    judged = {name: rlhf_stages.judged_pairs(profile, seed, objective=name) for name in (QUALITY, BRIEF)}
    once = {"keep_epochs": False}
    return {
        POOR_DPO: rlhf_stages.dpo(profile, seed, data=poor, **once),
        POOR_RLOO: rlhf_stages.policy_gradient(profile, seed, reward_model=reward, keep=()),
        JUDGED_DPO: rlhf_stages.dpo(profile, seed, data=judged[QUALITY], **once),
        GRADED_RLOO: rlhf_stages.policy_gradient(profile, seed),
        ONLINE: rlhf_stages.online_dpo(profile, seed),
        BRIEF_DPO: rlhf_stages.dpo(profile, seed, data=judged[BRIEF], **once),
        BRIEF_RLOO: rlhf_stages.policy_gradient(profile, seed, reward=BRIEF, keep=()),
    }


def read(path: Path, seed: int) -> pd.DataFrame:
    """Final policies of a frontier without a reward model."""
    rows = files.read_json(path)
    return pd.DataFrame([
        {
            "seed": seed,
            "arm": row["model"],
            "kl": max(row["kl"], 0.0),
            **{name: float(np.mean(row[name])) for name in ("quality", "brief", "words")},
        }
        for row in rows
    ])  # fmt: skip


def contests(found: Elsewhere) -> pd.DataFrame:
    """RLHF less DPO where it should win: true reward and KL, paired by seed."""
    rows = []
    for row, (ours, theirs) in CONTESTS.items():
        for column in ("quality", "kl"):
            difference = of(found, ours, column) - of(found, theirs, column)
            rows += seed_means.number(row, MEASURES[column], list(difference), n=found.questions)
    return tables.frame(rows)


def objectives(found: Elsewhere) -> pd.DataFrame:
    """The same method under two objectives: true reward, points less words, words, KL."""
    return _means(found, (START, JUDGED_DPO, BRIEF_DPO, GRADED_RLOO, BRIEF_RLOO))


def arms(found: Elsewhere) -> pd.DataFrame:
    """Every arm of the contests, as it ends."""
    return _means(found, (START, POOR_DPO, POOR_RLOO, JUDGED_DPO, ONLINE, GRADED_RLOO))


def of(found: Elsewhere, arm: str, column: str) -> np.ndarray:
    """One number a seed. Raises ValueError for an arm that was not measured."""
    own = found.points[found.points["arm"] == arm].sort_values("seed")
    if own.empty:
        raise ValueError(f"no arm named {arm!r}; there are {', '.join(dict.fromkeys(found.points['arm']))}")
    return own[column].to_numpy(dtype=float)


def _models(profile: str, seed: int) -> dict[str, Model]:
    return {arm: Model(stage) for arm, stage in models(profile, seed).items()}


def _means(found: Elsewhere, wanted: tuple[str, ...]) -> pd.DataFrame:
    return tables.frame(
        line
        for arm in wanted
        for column, metric in MEASURES.items()
        for line in seed_means.number(arm, metric, list(of(found, arm, column)), n=found.questions)
    )
