"""`train_policy_gradient` as a stage on the world: RLOO or GRPO by the recipe's name for it."""

from pathlib import Path

from zephyr_lab.core import files
from zephyr_lab.methods import policy_log, process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.meter import metered
from zephyr_lab.methods.policy_gradient import GRPO, RLOO, train_policy_gradient
from zephyr_lab.methods.recipes.rollouts import PolicyGradient, PolicyGradientRecipe
from zephyr_lab.methods.stages.plain_settings import settings_of
from zephyr_lab.methods.stages.world_questions import KeptPolicies, WorldQuestions, finish, reward_for
from zephyr_lab.models import saved

BY_NAME = {"rloo": RLOO, "grpo": GRPO}


def build(
    recipe: PolicyGradientRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Train `inputs["policy"]`, which is also the reference, by RLOO or GRPO on the recipe's reward.

    Writes the policy with its tokenizer to `out`, the policies kept on the way to steps/N, log.json (a row a step:
    reward, length, tokens) and trl_log.json (what the trainer logs: KL a token, entropy, clipped share, ...). Metrics:
    steps, tokens spent, CPU seconds and memory. Raises ValueError at the first loss that is not finite.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    with metered() as cost:
        policy = saved.load_model(start).to(device)
        questions = WorldQuestions.of_pairs(tokenizer, world=recipe.world, prompts=recipe.prompts, seed=seed)
        kept = KeptPolicies(recipe.keep, tokenizer, context.checkpoints)
        log = train_policy_gradient(
            policy,
            tokenizer,
            questions.rows,
            recipe=settings_of(recipe, PolicyGradient),
            reward=reward_for(recipe, questions, tokenizer, inputs, device),
            advantages=BY_NAME[recipe.algorithm],
            seed=seed,
            checkpoints=context.checkpoints,
            progress=context.progress,
            watch=kept,
        )
    finish(log, policy, kept, out)
    files.write_json(out / "trl_log.json", log.attrs["trainer"])
    return {"steps": float(len(log)), **policy_log.work(log), **cost.metrics()}
