"""Recipes of what RLHF on the world is measured with: judged pairs, frontiers, best-of-n; and a method's knobs.

Plain values only, no torch. The methods' own recipes are in `recipes.reward`, `recipes.rollouts` and
`recipes.preference`.
"""

import dataclasses
from dataclasses import dataclass

from zephyr_lab.methods.recipes.world_data import WorldPairs
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.world.judge import OBJECTIVES

# Fields that say where, how fast and how talkative, not what is learned: no knobs.
HOUSEKEEPING = frozenset(
    {
        "world",
        "start",
        "reward",
        "device",
        "log_every",
        "evaluate_every",
        "checkpoint_every",
        "keep",
        "keep_epochs",
        "micro_batch",
        "system_turn",
        "sampled_prompts",
        "sampled_tokens",
        "other_reference",
        "shared_prompt",
        "prompts",
        "algorithm",
    }
)


@dataclass(frozen=True, kw_only=True)
class JudgedPairs(WorldPairs):
    """Preference pairs of the world whose best answer is told by one of the judge's objectives, with its noise.

    objective: "quality" or "brief"; judge_sd: noise of the judge's score of an answer, in points. The two rules
    `chosen` and `rejected` work on these scores.
    """

    objective: str
    judge_sd: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        if self.judge_sd < 0:
            raise ValueError(f"judge_sd must not be negative, got {self.judge_sd}")


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """What policies answer to held-out questions at temperature 1: true and learned reward, KL to the start, lengths.

    Each turn is asked after ideal answers, so that it is one draw from the policy. models, folders: as in `Evaluation`.
    questions: how many two-turn questions of the benchmark ("mt_bench"), or single turns ("single_turn", which share no
    instance with them).
    """

    world: str
    benchmark: str
    questions: int
    max_new_tokens: int
    models: tuple[str, ...]
    folders: tuple[str, ...]
    device: str

    def __post_init__(self) -> None:
        require_world(self.world)
        if self.benchmark not in ("mt_bench", "single_turn"):
            raise ValueError(f"benchmark must be 'mt_bench' or 'single_turn', got {self.benchmark!r}")
        if self.questions < 1 or self.max_new_tokens < 1:
            raise ValueError("questions and max_new_tokens must be at least 1")
        if not self.models or len(self.models) != len(self.folders) or len(set(self.models)) < len(self.models):
            raise ValueError(f"models need different names and a folder each, got {self.models} and {self.folders}")


@dataclass(frozen=True, kw_only=True)
class BestOfN:
    """`samples` answers of the start to each held-out question, graded by judge and reward model."""

    start: str
    world: str
    benchmark: str
    questions: int
    samples: int
    max_new_tokens: int
    device: str

    def __post_init__(self) -> None:
        require_world(self.world)
        if self.samples < 2:
            raise ValueError(f"samples must be at least 2, got {self.samples}")


def knobs(recipe: object) -> tuple[str, ...]:
    """Fields of a recipe that shape what is learned: what somebody who uses the method must set."""
    return tuple(
        field.name
        for field in dataclasses.fields(recipe)  # type: ignore[arg-type]
        if field.name not in HOUSEKEEPING
    )
