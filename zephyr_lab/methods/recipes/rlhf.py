"""Recipes of RLHF on the world: the reward model, and four ways of learning from answers that the policy itself gives.

Plain values only, no torch: stage keys are computed from these. What every method has is in `Rollouts`; a field of a
subclass is a knob that this method has beyond that.
"""

import dataclasses
from dataclasses import dataclass

from zephyr_lab.methods.recipes.training import Staged, Training
from zephyr_lab.methods.recipes.world_data import WorldPairs
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.world.objectives import OBJECTIVES

LEARNED = "learned"
REWARDS = (LEARNED, *OBJECTIVES)  # a reward model's, or one of the judge's objectives
ALGORITHMS = ("rloo", "grpo")
DEVICES = ("cpu", "cuda")
# Fields that say where, how fast and how talkative, not what is learned: no knobs.
HOUSEKEEPING = frozenset({
    "world", "start", "reward", "device", "log_every", "evaluate_every", "checkpoint_every", "keep", "keep_epochs",
    "micro_batch", "system_turn", "sampled_prompts", "sampled_tokens", "other_reference", "shared_prompt",
    "prompts", "algorithm",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RewardRecipe(Staged, Training):
    """A reward model (Bradley-Terry) on pairs, started from a causal model whose head is replaced by a single number.

    pairs: how many of the training pairs it sees, 0 for all. centring: weight of the penalty on the mean reward.
    max_prompt_length, long_prompts: as for dDPO.
    """

    pairs: int
    centring: float
    max_prompt_length: int
    long_prompts: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs < 0:
            raise ValueError(f"pairs must not be negative, got {self.pairs} (0: all)")
        if self.centring < 0:
            raise ValueError(f"centring must not be negative, got {self.centring}")


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Training on the policy's own answers to the prompts of the preference pairs.

    world, prompts: which prompts, as the pairs' recipe has them. reward: "learned" (the input "reward"), or the
    judge's "quality" or "brief". beta: of the KL penalty, in units of reward a nat. steps: rollouts; in each, `batch`
    prompts get `samples` answers of at most `max_new_tokens` tokens at temperature 1. learning_rate: the peak, reached
    after `warmup` steps, down to `final_share` of it at the end (cosine). clip: largest gradient norm. keep: steps
    after which the policy is kept, as "steps/N". checkpoint_every: in steps. device: "cpu" or "cuda".
    """

    start: str
    world: str
    prompts: int
    reward: str
    beta: float
    steps: int
    batch: int
    samples: int
    max_new_tokens: int
    learning_rate: float
    warmup: int
    final_share: float
    clip: float
    keep: tuple[int, ...]
    checkpoint_every: int
    device: str

    def __post_init__(self) -> None:
        require_world(self.world)
        if self.reward not in REWARDS:
            raise ValueError(f"reward must be one of {', '.join(REWARDS)}, got {self.reward!r}")
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")
        for name in ("prompts", "steps", "batch", "samples", "max_new_tokens", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.learning_rate <= 0 or self.clip <= 0:
            raise ValueError(f"learning_rate and clip must be positive, got {self.learning_rate} and {self.clip}")
        if self.beta < 0:
            raise ValueError(f"beta must not be negative, got {self.beta}")
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"warmup must be from 0 to steps - 1 = {self.steps - 1}, got {self.warmup}")
        if not 0 <= self.final_share <= 1:
            raise ValueError(f"final_share must be a share from 0 to 1, got {self.final_share}")
        if any(not 1 <= step < self.steps for step in self.keep) or list(self.keep) != sorted(set(self.keep)):
            raise ValueError(f"keep must rise from 1 to steps - 1 = {self.steps - 1}, got {self.keep}")
        if self.batch > self.prompts:
            raise ValueError(f"batch must be at most prompts = {self.prompts}, got {self.batch}")


@dataclass(frozen=True, kw_only=True)
class PolicyGradientRecipe(Rollouts):
    """RLOO or GRPO, TRL's trainers. GRPO puts the KL into the loss (k3), RLOO into the reward (k1)."""

    algorithm: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {self.algorithm!r}")
        if self.samples < 2:
            raise ValueError(f"samples must be at least 2: answers to one prompt are compared, got {self.samples}")


@dataclass(frozen=True, kw_only=True)
class PPORecipe(Rollouts):
    """PPO with a value head on the policy's own hidden states.

    passes over each rollout, in `minibatches` parts; clip_ratio, value_clip: of the surrogate and the value loss;
    value_weight: of the value loss; discount, trace_decay: GAE's gamma and lambda.
    """

    passes: int
    minibatches: int
    clip_ratio: float
    value_clip: float
    value_weight: float
    discount: float
    trace_decay: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.passes < 1 or self.minibatches < 1 or (self.batch * self.samples) % self.minibatches:
            raise ValueError(
                f"minibatches must divide the {self.batch * self.samples} answers of a rollout, got {self.minibatches}"
            )
        if min(self.clip_ratio, self.value_clip) <= 0 or self.value_weight < 0:
            raise ValueError("clip_ratio and value_clip must be positive, and value_weight not negative")
        if not (0 <= self.discount <= 1 and 0 <= self.trace_decay <= 1):
            raise ValueError(f"discount and trace_decay must be shares, got {self.discount} and {self.trace_decay}")

    @property
    def updates(self) -> int:
        """Optimiser steps for each rollout."""
        return self.passes * self.minibatches


@dataclass(frozen=True, kw_only=True)
class OnlineDPORecipe(Rollouts):
    """DPO on pairs of answers that the policy of the moment gives, labelled by the judge.

    judge_sd: noise of the judge's score of each answer. Of `samples` answers the best and the worst make the pair.
    """

    judge_sd: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward == LEARNED:
            raise ValueError("online DPO asks a judge: reward must be 'quality' or 'brief'")
        if self.samples < 2:
            raise ValueError(f"samples must be at least 2 to make a pair, got {self.samples}")
        if self.judge_sd < 0:
            raise ValueError(f"judge_sd must not be negative, got {self.judge_sd}")
        if self.beta <= 0:
            raise ValueError(f"beta must be positive, got {self.beta}")


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
