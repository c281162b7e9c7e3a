"""Supervised fine-tuning (SFT), Zephyr's first step: TRL's SFTTrainer on dialogues.

Tunstall et al. 2023, arXiv 2310.16944, section 3. Ids and labels are ours, the loss and the loop are TRL's.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from datasets import Dataset
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig

from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.methods import optimizers, trl_adapters
from zephyr_lab.methods.calling import Progress, Run, device_of, log_frame, require_room, settings_by_keyword
from zephyr_lab.methods.examples import IGNORED, DialogueExample, read_dialogues, read_splits
from zephyr_lab.methods.recipes.training import SFT
from zephyr_lab.models.packed_attention import require_apart

Kind = TypeVar("Kind", bound=trl_adapters.StageSFTTrainer)


@settings_by_keyword(SFT)
def train_sft(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Any,
    *,
    recipe: SFT,
    held_out: Any = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    kind: type[trl_adapters.StageSFTTrainer] = trl_adapters.StageSFTTrainer,
    make_optimizer: Callable[[nn.Module], Optimizer | None] | None = None,
) -> pd.DataFrame:
    """Fine-tune `model` in place on dialogues, and return the log, a row an optimiser step.

    model: a causal language model of transformers on one device, whole or with peft adapters. dialogues: rows as TRL
    has them, {"messages": [...]} or prompt and completion; rows that cannot be used are counted and named, the others
    train. Settings: the fields of `SFT`, e.g. answers_only=True (loss on the assistant's tokens and their end, Zephyr's
    objective), packed, epochs, batch, learning_rate. held_out: dialogues that `evaluate_every` measures on.
    checkpoints: a folder to resume from after a kill. progress: called with (step, steps, loss=...) instead of a bar.
    tensorboard: a folder that gets the numbers of the log, too, when the training has ended.
    kind: another trainer than TRL's; make_optimizer: another optimiser of the model (None: the recipe's).

    The log has loss (nats, the mean over the step's labelled tokens before its update; a mixture's balancing loss,
    weighted as its config has it, is added), learning_rate and grad_norm; `log.attrs` the settings and an account of
    the rows.

    Raises ValueError where no row can be trained on, for a model on two devices, a tokenizer of another vocabulary, a
    model that reads on from one packed dialogue to the next, and at the first loss that is not finite.

    >>> from zephyr_lab.models.example import example_model
    >>> model, tokenizer = example_model()
    >>> chats = [{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}]}] * 4
    >>> log = train_sft(model, tokenizer, chats, epochs=2, batch=2, learning_rate=1e-2)
    train: 0 unusable rows; 4 rows, 4 used
    >>> len(log), bool(log["loss"].iloc[-1] < log["loss"].iloc[0])
    (4, True)
    """
    run = Run.begin("SFT", model, tokenizer, checkpoints, progress, recipe=recipe, seed=seed)
    examples, accounts = read_splits(read_dialogues, recipe, tokenizer, dialogues, held_out)
    require_room(max(example.longest for rows in examples.values() for example in rows), model)
    run.trains_on(examples[TRAIN], model)
    with trl_adapters.own_forwards(model), trl_adapters.settings_kept(model, tokenizer) as own:
        trainer = make_trainer(
            recipe,
            model,
            own,
            examples,
            seed=seed,
            folder=run.folder("trainer"),
            kind=kind,
            make_optimizer=make_optimizer,
        )
        log = trl_adapters.run(trainer, run, callbacks=callbacks)
    model.eval()
    return log_frame(
        log,
        method="train_sft",
        recipe=recipe,
        seed=seed,
        path="lean: labelled positions alone meet the head",
        steps=trainer.state.global_step,
        rows=accounts,
    )


def make_trainer(
    recipe: SFT,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: dict[str, list[DialogueExample]],
    *,
    seed: int,
    folder: Path | None,
    kind: type[Kind] = trl_adapters.StageSFTTrainer,
    make_optimizer: Callable[[nn.Module], Optimizer | None] | None = None,
) -> Kind:
    """A trainer of this kind, with checkpoints in `folder`; `make_optimizer`: another than the recipe's own.

    Raises ValueError if its own preparation drops tokens, and for a model that reads on from one packed text to the
    next.
    """
    trl_adapters.score_labelled_positions_only()
    if recipe.packed:
        require_apart(model, recipe.max_length)
    rows = {split: Dataset.from_list([asdict(one) for one in of_split]) for split, of_split in examples.items()}
    trainer = kind(
        model=model,
        args=SFTConfig(
            **trl_adapters.trainer_arguments(
                recipe,
                device=device_of(model),
                seed=seed,
                folder=folder,
                held_out=len(rows.get(TEST, ())),
                measure_start=TEST in rows and recipe.evaluate_every > 0,
            ),
            max_length=recipe.max_length if recipe.packed else None,  # rows are cut already, and the cuts counted
            packing=recipe.packed,
            packing_strategy="bfd",  # whole dialogues that do not see one another; under "wrapped" they do
            eval_packing=False,
        ),
        train_dataset=rows[TRAIN],
        eval_dataset=rows.get(TEST),
        processing_class=tokenizer,
        optimizers=(optimizers.muon_as_one(recipe, model) if make_optimizer is None else make_optimizer(model), None),
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
