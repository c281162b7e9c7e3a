"""Settings of a reward model, and the recipe of its stage. Plain values, no torch."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.dpo import LONG_PROMPTS
from zephyr_lab.methods.recipes.limits import require_at_least, require_one_of
from zephyr_lab.methods.recipes.training import Staged, Training


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
        if self.centring < 0:
            raise ValueError(f"centring must not be negative, got {self.centring}")
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
        if self.pairs < 0:
            raise ValueError(f"pairs must not be negative, got {self.pairs} (0: all)")
