"""Recipe of distilled direct preference optimisation (dDPO), Zephyr's last step. Plain values, no torch.

Whatever the paper, its code and its model cards disagree about is a field.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_at_least, require_one_of
from zephyr_lab.methods.recipes.training import Training

LONG_PROMPTS = ("cut_left", "set_aside")
EQUAL_ANSWERS = ("keep", "set_aside")


@dataclass(frozen=True, kw_only=True)
class DDPORecipe(Training):
    """Distilled direct preference optimisation on pairs.

    long_prompts: what becomes of a prompt beyond `max_prompt_length` tokens: its beginning is cut off, as the published
    script did, or the pair is set aside. equal_answers: whether pairs of equal texts, which teach nothing and can never
    be won, stay. other_reference: allow a reference that is not the policy's start. shared_prompt: compute each pair's
    prompt once (`methods.shared_prompt_dpo`); False is TRL's own path, for models and settings that need it.
    sampled_prompts: held-out prompts that the trained policy answers at temperature 1, for its KL to the reference and
    its lengths; sampled_tokens: the most that an answer may have.
    """

    beta: float
    max_prompt_length: int
    long_prompts: str
    equal_answers: str
    other_reference: bool
    shared_prompt: bool
    sampled_prompts: int
    sampled_tokens: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("long_prompts", self.long_prompts, LONG_PROMPTS)
        require_one_of("equal_answers", self.equal_answers, EQUAL_ANSWERS)
        require_at_least(1, sampled_prompts=self.sampled_prompts, sampled_tokens=self.sampled_tokens)
        if self.beta <= 0:
            raise ValueError(f"beta must be positive, got {self.beta} (Zephyr trains with 0.1)")
        if not 1 <= self.max_prompt_length < self.max_length:
            raise ValueError(
                f"max_prompt_length must be from 1 to max_length - 1 = {self.max_length - 1}, "
                f"got {self.max_prompt_length}"
            )
