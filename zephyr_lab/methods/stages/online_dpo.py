"""`train_online_dpo` as a stage on the world: the judge labels."""

from pathlib import Path

from zephyr_lab.methods import policy_log, process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.meter import metered
from zephyr_lab.methods.online_dpo import train_online_dpo
from zephyr_lab.methods.recipes.rollouts import OnlineDPO, OnlineDPORecipe
from zephyr_lab.methods.stages.plain_settings import settings_of
from zephyr_lab.methods.stages.world_questions import KeptPolicies, WorldQuestions, finish, reward_for
from zephyr_lab.models import saved


def build(
    recipe: OnlineDPORecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Train `inputs["policy"]`, which is also the reference, on pairs of its own answers that the judge labels.

    Writes the policy with its tokenizer to `out`, the policies kept on the way to steps/N, and log.json, a row a step:
    reward of all answers, KL, length, tied (share of questions whose answers the judge cannot tell apart; they teach
    nothing). Metrics: steps, tokens spent, CPU seconds and memory. Raises ValueError at a loss that is not finite.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    with metered() as cost:
        policy = saved.load_model(start).to(device)
        questions = WorldQuestions.of_pairs(tokenizer, world=recipe.world, prompts=recipe.prompts, seed=seed)
        kept = KeptPolicies(recipe.keep, tokenizer, context.checkpoints)
        log = train_online_dpo(
            policy,
            tokenizer,
            questions.rows,
            recipe=settings_of(recipe, OnlineDPO),
            reward=reward_for(recipe, questions, tokenizer, inputs, device),
            seed=seed,
            checkpoints=context.checkpoints,
            progress=context.progress,
            watch=kept,
        )
    finish(log, policy, kept, out)
    return {"steps": float(recipe.steps), **policy_log.work(log), **cost.metrics()}
