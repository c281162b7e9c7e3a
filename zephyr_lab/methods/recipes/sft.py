"""Recipe of distilled supervised fine-tuning (dSFT), Zephyr's first step. Plain values, no torch."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.training import Staged, Training


@dataclass(frozen=True, kw_only=True)
class SFT(Training):
    """Supervised fine-tuning on dialogues.

    answers_only: loss on the assistant's tokens (the paper's objective), or on all (what its code did). packed: rows
    filled up with several dialogues that do not see each other.
    """

    answers_only: bool = True
    packed: bool = False


@dataclass(frozen=True, kw_only=True)
class DSFTRecipe(Staged, SFT):
    """`SFT` as a stage."""
