"""Training a base model on plain text: documents packed in rows of one length, each kept apart from its neighbours.

The loss is the mean over the tokens that follow another of their document.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.rows import shown
from zephyr_lab.core.seeds import derive
from zephyr_lab.core.shapes import TokenIds
from zephyr_lab.data.packing import document_positions, pack, predictable
from zephyr_lab.data.splits import TRAIN, each_row
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.methods import loop
from zephyr_lab.methods.calling import Progress, Run, device_of, log_frame, settings_by_keyword
from zephyr_lab.methods.optimizers import Schedule, muon_and_adamw
from zephyr_lab.methods.recipes.pretrain import BaseTraining
from zephyr_lab.models import tokenizer as tokenizers
from zephyr_lab.models.causal import causal_model, evaluating, own_random_numbers, positions_of
from zephyr_lab.models.packed_attention import require_apart

PATH = "plain: logits of whole rows, at the vocabularies that are trained from nothing"
SHOWN = 3  # unusable texts that a line names


@settings_by_keyword(BaseTraining)
def train_base(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Any,
    *,
    recipe: BaseTraining,
    held_out: Any = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Train `model` to continue `texts`, by Muon for the layers' matrices and AdamW for the rest; left in eval mode.

    texts: documents, each followed by the tokenizer's end token and read as plain text, whatever it spells; longer ones
    than a row are cut into several. All are read once before any is read again. checkpoints: a folder; a call that
    finds it filled goes on where the last one was stopped, to the same bytes, and refuses those of other settings.

    The log has one row an optimiser step: `step` from 1 and `loss`, in nats a token, before the step's update. attrs:
    "held_out" (eval_loss before and after, over all tokens of `held_out`), "rows", "path", settings, seed, versions.

    >>> from zephyr_lab.models.example import example_model
    >>> model, tokenizer = example_model()
    >>> log = train_base(model, tokenizer, ["Name a fruit. An apple."] * 8, steps=8, warmup=1, rows=2, row_length=32)
    >>> len(log), bool(log["loss"].iloc[-1] < log["loss"].iloc[0])
    (8, True)

    Raises ValueError for a tokenizer of another vocabulary or without an end token, a model on two devices, one that
    reads on from one document to the next or has fewer positions than a row, where no text is usable, and at the first
    loss that is not finite.
    """
    run = Run.begin("base", model, tokenizer, checkpoints, progress, recipe=recipe, seed=seed)
    device = device_of(model)
    _require_room(model, tokenizer, recipe.row_length)
    read, account = _usable(texts, "texts")
    run.trains_on(read)
    rows = packed_rows(tokenizer, read, length=recipe.row_length).to(device)
    tests = None
    if held_out is not None:
        tests = packed_rows(tokenizer, _usable(held_out, "held out")[0], length=recipe.row_length)
    order = loop.drawn_places(len(rows), rounds=recipe.steps, at_once=recipe.rows, seed=derive(seed, "order"))

    def batch_loss(step: int) -> Tensor:
        batch = rows[order[step]]
        with own_random_numbers(device), torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            torch.manual_seed(derive(seed, "dropout", step))  # a resumed run draws as an unbroken one
            return packed_loss(model, tokenizer, batch)

    def measured(step: int) -> list[dict[str, float | int]]:
        return [] if tests is None else [{"step": step, "eval_loss": _whole_loss(model, tokenizer, tests, recipe.rows)}]

    before = measured(0)
    losses = loop.train(
        model,
        muon_and_adamw(model, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay),
        batch_loss,
        schedule=Schedule(steps=recipe.steps, warmup=recipe.warmup, final=recipe.final_share),
        clip=recipe.clip,
        checkpoint_every=recipe.checkpoint_every,
        context=run,
    )
    model.eval()
    steps = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    rows_log = [*steps, *before, *measured(recipe.steps)]
    return log_frame(rows_log, method="train_base", recipe=recipe, seed=seed, rows={TRAIN: account}, path=PATH)


def packed_rows(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, length: int) -> TokenIds:
    """Documents as rows of `length` ids, each followed by the end token, which pads too where there is no other."""
    ids = tokenizers.content_ids(tokenizer, texts)
    end = tokenizer.eos_token_id
    return pack(ids, length=length, eos_id=end, pad_id=end if _pads(tokenizer) is None else _pads(tokenizer))


def packed_loss(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, rows: TokenIds) -> Tensor:
    """Mean next-token loss of packed rows in nats, over the tokens that follow another of their document."""
    losses, counted = _losses(model, tokenizer, rows)
    return (losses * counted).sum() / counted.sum()


def _losses(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, rows: TokenIds
) -> tuple[Tensor, Tensor]:
    """Losses of tokens 1, 2, ... of each row, and which of them count."""
    places = document_positions(rows, eos_id=tokenizer.eos_token_id)
    pad = _pads(tokenizer)
    # An end token that pads follows another end token, so it opens a document of its own and follows nothing.
    counted = places > 0 if pad is None else predictable(rows, places, pad_id=pad)
    logits = model(input_ids=rows, position_ids=places, use_cache=False).logits
    return next_token_losses(logits, rows), counted[:, 1:]


@torch.inference_mode()
def _whole_loss(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, rows: TokenIds, at_once: int
) -> float:
    """The mean over all tokens of `rows`, `at_once` of them at a time."""
    total, tokens = 0.0, 0
    with evaluating(model):
        for start in range(0, len(rows), at_once):
            losses, counted = _losses(model, tokenizer, rows[start : start + at_once].to(model.device))
            total += (losses * counted).sum(dtype=torch.float64).item()
            tokens += int(counted.sum())
    return total / tokens


def _pads(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id that pads and does nothing else; None where there is none."""
    pad = tokenizer.pad_token_id
    return None if pad == tokenizer.eos_token_id else pad


def _require_room(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer {tokenizer.name_or_path!r} has no end token; set tokenizer.eos_token")
    causal = causal_model(model)
    room = positions_of(causal)
    if room is not None and length > room:
        raise ValueError(f"row_length {length} exceeds the model's {room} positions")
    require_apart(causal, length)


def _usable(texts: Any, name: str) -> tuple[list[str], dict[str, float]]:
    """The texts that can be read, and their account; prints which cannot. Raises ValueError where none can."""
    read = list(each_row(texts))
    faults = [_fault(text) for text in read]
    kept = [str(text) for text, fault in zip(read, faults, strict=True) if fault is None]
    bad = [f"row {number}: {fault}" for number, fault in enumerate(faults, start=1) if fault is not None]
    if not kept:
        raise ValueError(f"none of {len(bad)} {name} can be trained on" + (f": {bad[0]}" if bad else ""))
    if bad:
        print(f"{name}: {len(bad)} unusable: {'; '.join(bad[:SHOWN])}{'; ...' if len(bad) > SHOWN else ''}")
    return kept, {"rows": float(len(read)), "used": float(len(kept)), "unusable": float(len(bad))}


def _fault(text: object) -> str | None:
    if not isinstance(text, str):
        return f"must be a text, got {shown(text)}"
    if not text:
        return "is empty"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"holds {text[error.start]!r} at position {error.start}, which is not a character"
    return None
