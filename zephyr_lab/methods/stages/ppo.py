"""`train_ppo` as a stage on the world."""

from pathlib import Path

from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.ppo import train_ppo
from zephyr_lab.methods.recipes.rollouts import PPO, PPORecipe
from zephyr_lab.methods.stages.world_questions import trained


def build(recipe: PPORecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train `inputs["policy"]`, which is also the reference, by PPO on the recipe's reward.

    Writes the policy with its tokenizer to `out`, the policies kept on the way to steps/N, and log.json, a row a
    rollout: reward, KL (k1, nats an answer), length, value error, tokens. Metrics: steps (rollouts), updates, tokens
    spent, CPU seconds and memory. Raises ValueError at the first loss that is not finite.
    """
    _, metrics = trained(
        train_ppo,
        PPO,
        recipe,
        seed=seed,
        inputs=inputs,
        out=out,
        context=context,
    )
    return {"steps": float(recipe.steps), "updates": float(recipe.steps * recipe.updates), **metrics}
