"""On-policy distillation as a stage."""

from pathlib import Path

from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.on_policy_kd import train_on_policy_kd
from zephyr_lab.methods.recipes.kd import OnPolicyKDRecipe
from zephyr_lab.methods.stages import kd


def build(
    recipe: OnPolicyKDRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """As `stages.kd.build`, on the student's own answers to the dialogues' questions; log.json has sampled_tokens more.

    Raises as `stages.kd.build`, and ValueError where a question leaves no room for an answer.
    """
    return kd.distilled(train_on_policy_kd, recipe, seed=seed, inputs=inputs, out=out, context=context)
