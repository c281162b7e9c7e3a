"""Accuracy of DPO's implicit reward after each epoch, on training pairs and on held-out ones, all pairs, exactly.

A trainer logs the accuracy of each batch just before it learns from it, so its first epoch is on pairs that it has not
seen yet. Here the same pairs are ranked by the model as it stands after the epoch.
"""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN, pair_rows
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods import process
from zephyr_lab.methods.examples import PairExample, pair_examples
from zephyr_lab.methods.held_out_pairs import pair_log_probs, pair_metrics
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.pair_accuracy import PairAccuracy
from zephyr_lab.models import saved

BETA = 1.0  # a positive factor of all rewards: it decides no ranking


def build(recipe: PairAccuracy, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Rank the pairs of `inputs["pairs"]` by the models of `inputs["policy"]` against `inputs["reference"]`.

    Writes accuracy.json, a row a model and split: model (its folder, "final" for ""), split, accuracy (ties half),
    pairs. Pairs of equal texts, which no model can tell apart, are left out. Metrics: pairs of each split.
    """
    del seed  # nothing is drawn
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["reference"] / recipe.start
    reference, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    examples: dict[str, list[PairExample]] = {}
    for split in (TRAIN, TEST):
        found = pair_rows(inputs["pairs"], split)
        examples[split], account = pair_examples(
            tokenizer,
            found.rows,
            max_length=recipe.max_length,
            max_prompt_length=recipe.max_prompt_length,
            long_prompts=recipe.long_prompts,
            equal_answers="set_aside",
            system_turn=recipe.system_turn,
            numbers=found.numbers,
        )
        print(f"{split}: {found.line(account.line())}")
    against = {split: _log_probs(reference, given, recipe) for split, given in examples.items()}
    rows = []
    for place, folder in enumerate(recipe.folders):
        policy = saved.load_model(inputs["policy"] / folder).to(device)
        for split, given in examples.items():
            found = pair_metrics(_log_probs(policy, given, recipe), against[split], beta=BETA)
            row = {"model": folder or "final", "split": split, "accuracy": found["accuracy"], "pairs": len(given)}
            rows.append(row)
        context.progress(place + 1, len(recipe.folders))
    files.write_json(out / "accuracy.json", rows)
    return {split: float(len(given)) for split, given in examples.items()}


def _log_probs(model: PreTrainedModel, examples: Sequence[PairExample], recipe: PairAccuracy) -> PairLogProbs:
    return pair_log_probs(model, examples, rows_at_once=recipe.rows_at_once)
