"""Settings of the methods that learn from answers which the policy itself gives, and the recipes of their stages.

Plain values only, no torch: stage keys are computed from these. What every such method has is in `OnAnswers`; a field
of a subclass is a knob that this method has beyond that. `Rollouts` is what a stage on the world adds.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import (
    require_at_least,
    require_device,
    require_not_negative,
    require_one_of,
    require_positive,
    require_share,
    require_warmup,
    require_world,
)
from zephyr_lab.world.judge import OBJECTIVES

LEARNED = "learned"
REWARDS = (LEARNED, *OBJECTIVES)  # a reward model's, or one of the judge's objectives
ALGORITHMS = ("rloo", "grpo")


@dataclass(frozen=True, kw_only=True)
class OnAnswers:
    """Training on the policy's own answers. Defaults: sizes for one device and a model of some hundred million weights.

    beta: of the KL penalty to the reference, in units of reward a nat. steps: rollouts; in each, `batch` prompts get
    `samples` answers of at most `max_new_tokens` tokens at temperature 1. learning_rate: the peak, reached after
    `warmup` steps, down to `final_share` of it at the end (cosine). clip: largest gradient norm. checkpoint_every: in
    steps.
    """

    beta: float = 0.05
    steps: int = 200
    batch: int = 8
    samples: int = 4
    max_new_tokens: int = 128
    learning_rate: float = 1e-6
    warmup: int = 0
    final_share: float = 0.1
    clip: float = 1.0
    checkpoint_every: int = 20

    def __post_init__(self) -> None:
        require_at_least(
            1,
            steps=self.steps,
            batch=self.batch,
            samples=self.samples,
            max_new_tokens=self.max_new_tokens,
            checkpoint_every=self.checkpoint_every,
        )
        require_positive(learning_rate=self.learning_rate, clip=self.clip)
        require_not_negative(beta=self.beta)
        require_warmup(self.warmup, self.steps)
        require_share(final_share=self.final_share)


@dataclass(frozen=True, kw_only=True)
class PolicyGradient(OnAnswers):
    """RLOO or GRPO (Ahmadian et al. 2024, Shao et al. 2024): several answers to a prompt are compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(2, samples=self.samples)  # answers to one prompt are compared


@dataclass(frozen=True, kw_only=True)
class PPO(OnAnswers):
    """PPO with a value head on the policy's own hidden states. Defaults of its own: Schulman et al. 2017's clip and
    GAE as TRL's last PPO had them, one answer a prompt.

    passes over each rollout, in `minibatches` parts; clip_ratio, value_clip: of the surrogate and the value loss;
    value_weight: of the value loss; discount, trace_decay: GAE's gamma and lambda.
    """

    batch: int = 32
    samples: int = 1
    passes: int = 4
    minibatches: int = 1
    clip_ratio: float = 0.2
    value_clip: float = 0.2
    value_weight: float = 0.1
    discount: float = 1.0
    trace_decay: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, passes=self.passes, minibatches=self.minibatches)
        if (self.batch * self.samples) % self.minibatches:
            raise ValueError(
                f"minibatches must divide the {self.batch * self.samples} answers of a rollout, got {self.minibatches}"
            )
        require_positive(clip_ratio=self.clip_ratio, value_clip=self.value_clip)
        require_not_negative(value_weight=self.value_weight)
        require_share(discount=self.discount, trace_decay=self.trace_decay)

    @property
    def updates(self) -> int:
        """Optimiser steps for each rollout."""
        return self.passes * self.minibatches


@dataclass(frozen=True, kw_only=True)
class OnlineDPO(OnAnswers):
    """DPO on pairs of answers that the policy of the moment gives (Guo et al. 2024), labelled by a reward.

    Of `samples` answers the best and the worst make the pair. judge_sd: noise that is added to the reward of each
    answer before they are compared, 0 for none.
    """

    beta: float = 0.1
    samples: int = 2
    judge_sd: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(2, samples=self.samples)  # to make a pair
        require_not_negative(judge_sd=self.judge_sd)
        require_positive(beta=self.beta)


@dataclass(frozen=True, kw_only=True)
class Rollouts(OnAnswers):
    """Training on the policy's own answers as a stage, to the prompts of the world's preference pairs.

    start: folder inside the starting stage. world, prompts: which prompts, as the pairs' recipe has them. reward:
    "learned" (the input "reward"), or the judge's "quality" or "brief". keep: steps after which the policy is kept, as
    "steps/N".
    """

    start: str
    world: str
    prompts: int
    reward: str
    keep: tuple[int, ...]
    device: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require_world(self.world)
        require_one_of("reward", self.reward, REWARDS)
        require_device(self.device)
        require_at_least(1, prompts=self.prompts)
        if any(not 1 <= step < self.steps for step in self.keep) or list(self.keep) != sorted(set(self.keep)):
            raise ValueError(f"keep must rise from 1 to steps - 1 = {self.steps - 1}, got {self.keep}")
        if self.batch > self.prompts:
            raise ValueError(f"batch must be at most prompts = {self.prompts}, got {self.batch}")


@dataclass(frozen=True, kw_only=True)
class PolicyGradientRecipe(Rollouts, PolicyGradient):
    """`PolicyGradient` as a stage. algorithm: "rloo" or "grpo"."""

    algorithm: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("algorithm", self.algorithm, ALGORITHMS)


@dataclass(frozen=True, kw_only=True)
class PPORecipe(Rollouts, PPO):
    """`PPO` as a stage."""


@dataclass(frozen=True, kw_only=True)
class OnlineDPORecipe(Rollouts, OnlineDPO):
    """`OnlineDPO` as a stage: the judge labels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward == LEARNED:
            raise ValueError("online DPO asks a judge: reward must be 'quality' or 'brief'")


@dataclass(frozen=True, kw_only=True)
class OwnRewardPolicyGradient(PolicyGradientRecipe):
    """RLOO or GRPO on a reward from a notebook.

    own_reward: the text that `engine.own_code` made of the function. `reward` keeps the name of a judge's objective and
    is not asked.
    """

    own_reward: str


@dataclass(frozen=True, kw_only=True)
class OwnRewardPPO(PPORecipe):
    """PPO on a reward from a notebook, as `OwnRewardPolicyGradient`."""

    own_reward: str


@dataclass(frozen=True, kw_only=True)
class OwnRewardOnlineDPO(OnlineDPORecipe):
    """Online DPO on pairs labelled by a reward from a notebook, as `OwnRewardPolicyGradient`."""

    own_reward: str


OWN_REWARD: dict[type[Rollouts], type[Rollouts]] = {
    PolicyGradientRecipe: OwnRewardPolicyGradient,
    PPORecipe: OwnRewardPPO,
    OnlineDPORecipe: OwnRewardOnlineDPO,
}
