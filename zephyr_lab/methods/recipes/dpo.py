"""Recipe of distilled direct preference optimisation (dDPO), Zephyr's last step. Plain values, no torch.

Whatever the paper, its code and its model cards disagree about is a field.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_at_least, require_one_of
from zephyr_lab.methods.recipes.training import Staged, Training

LONG_PROMPTS = ("cut_left", "set_aside")
EQUAL_ANSWERS = ("keep", "set_aside")


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
