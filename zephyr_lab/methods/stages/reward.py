"""`train_reward` as a stage, started from a causal model whose head is replaced by a single number."""

from pathlib import Path

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN, pair_rows
from zephyr_lab.methods import process
from zephyr_lab.methods.calling import log_rows
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.pairs import Reward, RewardRecipe
from zephyr_lab.methods.recipes.training import settings_of
from zephyr_lab.methods.reward import train_reward
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models import saved


def build(recipe: RewardRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train a reward model, started from `inputs["start"]`, on the pairs of `inputs["pairs"]`.

    Writes it with its tokenizer to `out`, log.json, and held_out.json: loss, accuracy (ties half) and mean reward of
    both sides on the test pairs. Metrics: steps, pairs, tokens read with a gradient, those of held_out.json, CPU
    seconds and memory. Raises ValueError at the first loss that is not finite.
    """
    process.prepare()
    start = inputs["start"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    model = reward_models.from_causal(start, pad_id=tokenizer.pad_token_id).to(process.pick_device(recipe.device))
    with process.metered() as cost:
        log = train_reward(
            model,
            tokenizer,
            pair_rows(inputs["pairs"], TRAIN),
            recipe=settings_of(recipe, Reward),
            held_out=pair_rows(inputs["pairs"], TEST),
            most=recipe.pairs or None,
            seed=seed,
            checkpoints=context.checkpoints,
            progress=context.progress,
        )
    saved.save(model, tokenizer, out)
    held_out = log.attrs["held_out_metrics"]
    files.write_json(out / "log.json", log_rows(log))
    files.write_json(out / "held_out.json", held_out)
    return {
        "steps": float(log["step"].iloc[-1]),
        "pairs": float(log.attrs["pairs"]),
        "tokens_trained": float(log.attrs["tokens_trained"]),
        **{f"held_out_{name}": value for name, value in held_out.items()},
        **cost.metrics(),
    }
