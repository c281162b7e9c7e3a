"""`train_policy_gradient` as a stage on the world: RLOO or GRPO by the recipe's name for it."""

from pathlib import Path

from zephyr_lab.core import files
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.policy_gradient import GRPO, RLOO, train_policy_gradient
from zephyr_lab.methods.recipes.rollouts import PolicyGradient, PolicyGradientRecipe
from zephyr_lab.methods.stages.world_questions import trained

BY_NAME = {"rloo": RLOO, "grpo": GRPO}


def build(
    recipe: PolicyGradientRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Train `inputs["policy"]`, which is also the reference, by RLOO or GRPO on the recipe's reward.

    Writes the policy with its tokenizer to `out`, the policies kept on the way to steps/N, log.json (a row a step:
    reward, length, tokens) and trl_log.json (what the trainer logs: KL a token, entropy, clipped share, ...). Metrics:
    steps, tokens spent, CPU seconds and memory. Raises ValueError at the first loss that is not finite.
    """
    log, metrics = trained(
        train_policy_gradient,
        PolicyGradient,
        recipe,
        seed=seed,
        inputs=inputs,
        out=out,
        context=context,
        advantages=BY_NAME[recipe.algorithm],
    )
    files.write_json(out / "trl_log.json", log.attrs["trainer"])
    return {"steps": float(len(log)), **metrics}
