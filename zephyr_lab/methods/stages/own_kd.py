"""Distillation by a loss from a notebook, as a stage: `stages.kd` with another function of `train_kd`'s kind."""

from functools import partial
from pathlib import Path

from zephyr_lab.engine import own_code
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.own_kd import train_own_kd
from zephyr_lab.methods.recipes.own_kd import OwnLossKD
from zephyr_lab.methods.stages import kd


def build(recipe: OwnLossKD, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """As `stages.kd.build`, by the loss that the recipe brings; log.json has own_loss more."""
    train = partial(train_own_kd, loss=own_code.restored(recipe.own_loss))
    return kd.distilled(train, recipe, seed=seed, inputs=inputs, out=out, context=context)
