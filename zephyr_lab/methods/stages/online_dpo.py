"""`train_online_dpo` as a stage on the world: the judge labels."""

from pathlib import Path

from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.online_dpo import train_online_dpo
from zephyr_lab.methods.recipes.rollouts import OnlineDPO, OnlineDPORecipe
from zephyr_lab.methods.stages.world_questions import trained


def build(
    recipe: OnlineDPORecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Train `inputs["policy"]`, which is also the reference, on pairs of its own answers that the judge labels.

    Writes the policy with its tokenizer to `out`, the policies kept on the way to steps/N, and log.json, a row a step:
    reward of all answers, KL, length, tied (share of questions whose answers the judge cannot tell apart; they teach
    nothing). Metrics: steps, tokens spent, CPU seconds and memory. Raises ValueError at a loss that is not finite.
    """
    _, metrics = trained(
        train_online_dpo,
        OnlineDPO,
        recipe,
        seed=seed,
        inputs=inputs,
        out=out,
        context=context,
    )
    return {"steps": float(recipe.steps), **metrics}
