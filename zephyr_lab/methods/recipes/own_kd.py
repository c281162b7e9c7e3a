"""Recipe of distillation by a loss from a notebook. Plain values, no torch."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.kd import KDRecipe


@dataclass(frozen=True, kw_only=True)
class OwnLossKD(KDRecipe):
    """`KD` as a stage, with a loss from a notebook (the text that `engine.own_code` made of it) in place of eq. 2."""

    own_loss: str
