"""Distilled supervised fine-tuning (dSFT), Zephyr's first step: TRL's SFTTrainer on dialogues that a teacher answered.

Tunstall et al. 2023, arXiv 2310.16944, section 3. Ids and labels are ours, the loss and the loop are TRL's.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN, dialogue_rows
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.methods import process, trl_adapters
from zephyr_lab.methods.examples import IGNORED, Account, DialogueExample, dialogue_examples
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.sft import DSFTRecipe
from zephyr_lab.models import saved
from zephyr_lab.models.packed_attention import require_apart

Kind = TypeVar("Kind", bound=trl_adapters.StageSFTTrainer)


def build(recipe: DSFTRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Fine-tune `inputs["base"]` on the dialogues of `inputs["dialogues"]` (train.jsonl, test.jsonl).

    Writes the model with its tokenizer to `out`, log.json (a row a log; "eval_" marks held-out rows), rows.json (what
    was found in the data) and epochs/N where the recipe keeps them. Metrics: steps; rows, used, and a count for each
    finding in the training rows; held_out_loss before ("_start") and after, in nats a token.

    Raises ValueError where no row can be trained on, and at the first loss that is not finite.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["base"] / recipe.start
    model, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    examples, accounts = read_examples(recipe, inputs["dialogues"], tokenizer)
    before = held_out_loss(model, examples[TEST], rows_at_once=recipe.micro_batch)
    trainer = make_trainer(recipe, model, tokenizer, examples, seed=seed, folder=context.checkpoints / "trainer")
    kept = context.checkpoints / "epochs" if recipe.keep_epochs else None
    log = trl_adapters.run(trainer, context, epochs=kept)
    after = held_out_loss(model, examples[TEST], rows_at_once=recipe.micro_batch)
    saved.save(model, tokenizer, out)
    if kept is not None:
        shutil.copytree(kept, out / "epochs")
    files.write_json(out / "log.json", log)
    files.write_json(out / "rows.json", {split: asdict(account) for split, account in accounts.items()})
    return {
        "steps": float(trainer.state.global_step),
        **accounts[TRAIN].metrics(),
        "held_out_loss_start": before,
        "held_out_loss": after,
    }


def read_examples(
    recipe: DSFTRecipe, folder: Path, tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[str, list[DialogueExample]], dict[str, Account]]:
    """The examples of both splits as the recipe wants them, and what was found in their rows, which is printed."""
    examples, accounts = {}, {}
    for split in (TRAIN, TEST):
        found = dialogue_rows(folder, split)
        examples[split], accounts[split] = dialogue_examples(
            tokenizer,
            found.rows,
            max_length=recipe.max_length,
            answers_only=recipe.answers_only,
            system_turn=recipe.system_turn,
            numbers=found.numbers,
        )
        print(f"{split}: {found.line(accounts[split].line())}")
    return examples, accounts


def make_trainer(
    recipe: DSFTRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: dict[str, list[DialogueExample]],
    *,
    seed: int,
    folder: Path,
    kind: type[Kind] = trl_adapters.StageSFTTrainer,
    optimizer: Optimizer | None = None,
) -> Kind:
    """A trainer of this kind, with checkpoints in `folder`; `optimizer`: another than the recipe's own.

    Raises ValueError if its own preparation drops tokens, and for a model that reads on from one packed text to the
    next.
    """
    trl_adapters.score_labelled_positions_only()
    if recipe.packed:
        require_apart(model, recipe.max_length)
    rows = {split: Dataset.from_list([asdict(example) for example in given]) for split, given in examples.items()}
    trainer = kind(
        model=model,
        args=SFTConfig(
            **trl_adapters.trainer_arguments(
                recipe,
                device=model.device,
                seed=seed,
                folder=folder,
                held_out=len(rows[TEST]),
                measure_start=recipe.evaluate_every > 0,
            ),
            max_length=recipe.max_length if recipe.packed else None,  # rows are cut already, and the cuts counted
            packing=recipe.packed,
            packing_strategy="bfd",  # whole dialogues that do not see one another; under "wrapped" they do
            eval_packing=False,
        ),
        train_dataset=rows[TRAIN],
        eval_dataset=rows[TEST],
        processing_class=tokenizer,
        optimizers=(optimizer or trl_adapters.optimizer(recipe, model), None),
    )
    trl_adapters.require_all_tokens(rows[TRAIN], trainer)
    return trainer


def held_out_loss(model: PreTrainedModel, examples: Sequence[DialogueExample], *, rows_at_once: int) -> float:
    """Mean next-token loss over all labelled tokens of `examples`, in nats.

    The trainer's own held-out loss is a mean of batch means, in which tokens of short batches weigh more.
    """
    model.eval()
    total, tokens = 0.0, 0
    for start in range(0, len(examples), rows_at_once):
        batch = examples[start : start + rows_at_once]
        ids = _padded([example.input_ids for example in batch], 0).to(model.device)
        counted = _padded([example.labels for example in batch], IGNORED).to(model.device)[:, 1:] != IGNORED
        with torch.inference_mode():
            # Padding on the right: no token that counts sees it.
            losses = next_token_losses(model(input_ids=ids, use_cache=False).logits, ids)
        total += losses[counted].double().sum().item()
        tokens += int(counted.sum())
    return total / tokens


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
