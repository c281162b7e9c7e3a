"""dSFT as a stage: the model and the dialogues of its inputs, `train_sft`, and the loss on held-out rows."""

import shutil
from pathlib import Path
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN, dialogue_rows
from zephyr_lab.methods import process
from zephyr_lab.methods.calling import log_rows
from zephyr_lab.methods.examples import counts, read_dialogues
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.training import DSFTRecipe
from zephyr_lab.methods.sft import held_out_loss, train_sft
from zephyr_lab.methods.trl_adapters import KeepEpochs
from zephyr_lab.models import saved


def build(recipe: DSFTRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Fine-tune `inputs["base"]` on the dialogues of `inputs["dialogues"]` (train.jsonl, test.jsonl).

    Writes the model with its tokenizer to `out`, log.json (a row a log; "eval_" marks held-out rows), rows.json (an
    account of the data) and epochs/N where the recipe keeps them. Metrics: steps; rows, used, and a count for each
    finding in the training rows; held_out_loss before ("_start") and after, in nats a token. Raises as `train_sft`.
    """
    kept = context.checkpoints / "epochs" if recipe.keep_epochs else None
    callbacks = [] if kept is None else [KeepEpochs(kept)]
    metrics = trained(recipe, seed=seed, inputs=inputs, out=out, context=context, callbacks=callbacks)
    if kept is not None:
        shutil.copytree(kept, out / "epochs")
    return metrics


def trained(
    recipe: DSFTRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context, **arguments: Any
) -> dict[str, float]:
    """What `build` does but for the epochs. arguments: more of `train_sft`."""
    process.prepare()
    start = inputs["base"] / recipe.start
    model = saved.load_model(start).to(process.pick_device(recipe.device))
    tokenizer = saved.load_chat_tokenizer(start)
    dialogues = {split: dialogue_rows(inputs["dialogues"], split) for split in (TRAIN, TEST)}
    examples, _ = read_dialogues(recipe, tokenizer, dialogues[TEST])
    before = held_out_loss(model, examples, rows_at_once=recipe.micro_batch)
    log = train_sft(
        model,
        tokenizer,
        dialogues[TRAIN],
        recipe=recipe,
        held_out=dialogues[TEST],
        seed=seed,
        checkpoints=context.checkpoints,
        progress=context.progress,
        **arguments,
    )
    after = held_out_loss(model, examples, rows_at_once=recipe.micro_batch)
    saved.save(model, tokenizer, out)
    files.write_json(out / "log.json", log_rows(log))
    files.write_json(out / "rows.json", log.attrs["rows"])
    return {
        "steps": float(log.attrs["steps"]),
        **counts(log.attrs["rows"][TRAIN]),
        "held_out_loss_start": before,
        "held_out_loss": after,
    }
