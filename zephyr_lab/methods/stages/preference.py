"""`train_preference` as a stage: the loss by the recipe's name for it, and its effect on held-out pairs."""

from collections.abc import Callable
from pathlib import Path

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN, pair_rows
from zephyr_lab.losses.fast import pair_losses
from zephyr_lab.losses.fast.pair_losses import PairLoss
from zephyr_lab.methods import process
from zephyr_lab.methods.examples import read_pairs
from zephyr_lab.methods.held_out_pairs import pair_log_probs
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.preference import KTO, ROWS_AT_ONCE, held_out, train_preference
from zephyr_lab.methods.recipes.pairs import FamilyRecipe, Preference
from zephyr_lab.methods.recipes.training import settings_of
from zephyr_lab.models import saved

BY_NAME: dict[str, Callable[[FamilyRecipe], PairLoss | KTO]] = {
    "dpo": lambda recipe: pair_losses.dpo(beta=recipe.strength),
    "ipo": lambda recipe: pair_losses.ipo(tau=recipe.strength),
    "cdpo": lambda recipe: pair_losses.cdpo(beta=recipe.strength, label_smoothing=recipe.second),
    "kto": lambda recipe: KTO(beta=recipe.strength),
    "orpo": lambda recipe: pair_losses.orpo(weight=recipe.strength),
    "simpo": lambda recipe: pair_losses.simpo(beta=recipe.strength, gamma=recipe.second),
}


def build(recipe: FamilyRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Train `inputs["policy"]` on the pairs of `inputs["pairs"]` with the recipe's loss.

    Writes the model with its tokenizer to `out` and losses.json, a loss a step. Metrics: steps, pairs, tokens_trained,
    tokens_scored; those of `held_out` on the test pairs; CPU seconds and memory. Raises ValueError at the first loss
    that is not finite.
    """
    process.prepare()
    start = inputs["policy"] / recipe.start
    policy = saved.load_model(start).to(process.pick_device(recipe.device))
    tokenizer = saved.load_chat_tokenizer(start)
    examples, _ = read_pairs(recipe, tokenizer, pair_rows(inputs["pairs"], TEST), name=TEST)
    begun = pair_log_probs(policy, examples, rows_at_once=ROWS_AT_ONCE)
    with process.metered() as cost:
        log = train_preference(
            policy,
            tokenizer,
            pair_rows(inputs["pairs"], TRAIN),
            recipe=settings_of(recipe, Preference),
            loss=BY_NAME[recipe.loss](recipe),
            seed=seed,
            checkpoints=context.checkpoints,
            progress=context.progress,
        )
    saved.save(policy, tokenizer, out)
    files.write_json(out / "losses.json", log["loss"].tolist())
    return {
        "steps": float(len(log)),
        "pairs": float(log.attrs["pairs"]),
        **{name: log.attrs[name] for name in ("tokens_trained", "tokens_scored")},
        **held_out(policy, begun, examples),
        **cost.metrics(),
    }
