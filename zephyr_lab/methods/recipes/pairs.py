"""Recipes of training on preference pairs: dDPO, any loss of the family, reward models. Plain values, no torch.

Whatever Zephyr's paper, its code and its model cards disagree about is a field.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import (
    require_at_least,
    require_device,
    require_not_negative,
    require_one_of,
    require_positive,
    require_share,
    require_share_below_1,
)
from zephyr_lab.methods.recipes.training import Staged, Training

LONG_PROMPTS = ("cut_left", "set_aside")
EQUAL_ANSWERS = ("keep", "set_aside")
LOSSES = ("dpo", "ipo", "cdpo", "kto", "orpo", "simpo")


@dataclass(frozen=True, kw_only=True)
class DPO(Training):
    """Direct preference optimisation on pairs. Defaults: Zephyr's (arXiv 2310.16944, section 4.4), for one epoch.

    long_prompts: what becomes of a prompt beyond `max_prompt_length` tokens: its beginning is cut off, as the published
    script did, or the pair is set aside. equal_answers: whether pairs of equal texts, which teach nothing and can never
    be won, stay. shared_prompt: compute each pair's prompt once where the model allows it.
    """

    learning_rate: float = 5e-7
    schedule: str = "linear"
    max_length: int = 1024
    beta: float = 0.1
    max_prompt_length: int = 512
    long_prompts: str = "cut_left"
    equal_answers: str = "set_aside"
    shared_prompt: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("long_prompts", self.long_prompts, LONG_PROMPTS)
        require_one_of("equal_answers", self.equal_answers, EQUAL_ANSWERS)
        if self.beta <= 0:
            raise ValueError(f"beta must be positive, got {self.beta} (Zephyr trains with 0.1)")
        if not 1 <= self.max_prompt_length < self.max_length:
            raise ValueError(
                f"max_prompt_length must be from 1 to max_length - 1 = {self.max_length - 1}, "
                f"got {self.max_prompt_length}"
            )


@dataclass(frozen=True, kw_only=True)
class DDPORecipe(Staged, DPO):
    """`DPO` as a stage.

    other_reference: allow a reference that is not the policy's start. sampled_prompts: held-out prompts that the
    trained policy answers at temperature 1, for its KL to the reference and its lengths; sampled_tokens: the most that
    an answer may have.
    """

    other_reference: bool
    sampled_prompts: int
    sampled_tokens: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, sampled_prompts=self.sampled_prompts, sampled_tokens=self.sampled_tokens)


@dataclass(frozen=True, kw_only=True)
class OwnLossDPO(DDPORecipe):
    """`DPO` as a stage, with a loss from a notebook (the text that `engine.own_code` made of it) in place of DPO's."""

    own_loss: str


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Offline preference training by any loss of the family on one loop. Defaults: Zephyr's dDPO, for one epoch.

    sft_weight: of an added term, -log-prob a token of the chosen answer. epochs over all pairs in batches of `batch`;
    learning_rate: the peak, after a share `warmup` of all steps, down to `final_share` of it (cosine). clip: largest
    gradient norm. The rest cuts rows as for `DPO`; checkpoint_every: in steps.
    """

    sft_weight: float = 0.0
    epochs: int = 1
    batch: int = 32
    learning_rate: float = 5e-7
    warmup: float = 0.1
    final_share: float = 0.0
    clip: float = 1.0
    max_length: int = 1024
    max_prompt_length: int = 512
    long_prompts: str = "cut_left"
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        require_one_of("long_prompts", self.long_prompts, LONG_PROMPTS)
        require_at_least(1, epochs=self.epochs, batch=self.batch, checkpoint_every=self.checkpoint_every)
        require_positive(learning_rate=self.learning_rate, clip=self.clip)
        require_not_negative(sft_weight=self.sft_weight)
        require_share_below_1(warmup=self.warmup)
        require_share(final_share=self.final_share)


@dataclass(frozen=True, kw_only=True)
class FamilyRecipe(Preference):
    """`Preference` as a stage, of the input "policy", which is also the reference where the loss has one.

    loss: its name. strength: beta of DPO, cDPO, KTO and SimPO, tau of IPO, the weight (lambda) of ORPO. second: label
    smoothing of cDPO, gamma (the margin itself) of SimPO, 0 elsewhere.
    """

    start: str
    loss: str
    strength: float
    second: float
    device: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("loss", self.loss, LOSSES)
        require_device(self.device)
        require_positive(strength=self.strength)
        require_not_negative(second=self.second)
        if self.loss == "kto" and self.batch < 2:
            raise ValueError("KTO needs batches of two pairs or more: its reference point comes from a shifted batch")


@dataclass(frozen=True, kw_only=True)
class Reward(Training):
    """A reward model (Bradley-Terry) on pairs. Defaults: TRL's RewardTrainer, at a rate for all weights.

    centring: weight of the penalty on the mean reward (arXiv 2312.09244), 0 for none. max_prompt_length, long_prompts:
    as for `DPO`.
    """

    learning_rate: float = 1e-5
    max_length: int = 1024
    centring: float = 0.0
    max_prompt_length: int = 512
    long_prompts: str = "cut_left"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(centring=self.centring)
        require_at_least(1, max_prompt_length=self.max_prompt_length)
        require_one_of("long_prompts", self.long_prompts, LONG_PROMPTS)


@dataclass(frozen=True, kw_only=True)
class RewardRecipe(Staged, Reward):
    """`Reward` as a stage, started from a causal model whose head is replaced by a single number.

    pairs: how many of the training pairs it sees, 0 for all.
    """

    pairs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(pairs=self.pairs)
