"""Dialogues as batches for draft training: ids, answer masks and the target's features of each row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.core.shapes import TokenIds, TokenMask
from zephyr_lab.data import splits
from zephyr_lab.data.splits import Split
from zephyr_lab.methods.examples import IGNORED, dialogue_examples
from zephyr_lab.models.logits import last_hidden_states

ROWS_AT_ONCE = 32
SORTED_TOGETHER = 8  # batches whose rows are sorted by length among each other, to save padding


@dataclass(frozen=True, slots=True)
class Row:
    """A dialogue: its ids, where its answers stand, and the target's features, None where they are not kept."""

    ids: Tensor
    answers: Tensor
    features: Tensor | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right. features: the target's after its final norm, (row, position, hidden)."""

    ids: TokenIds
    answers: TokenMask
    features: Tensor
    lengths: Tensor


def rows_of(
    dialogues: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str,
    max_length: int,
    system_turn: bool,
) -> tuple[list[Row], dict[str, float]]:
    """Dialogues as rows without features, and an account of them; rows that are made already come back as they are.

    Prints what was found, under `name`. Raises ValueError where no dialogue is usable.
    """
    if not isinstance(dialogues, Split):
        dialogues = list(splits.each_row(dialogues))
        if dialogues and all(isinstance(row, Row) for row in dialogues):
            return dialogues, {"rows": float(len(dialogues)), "used": float(len(dialogues))}
    read = splits.dialogues(dialogues)
    examples, account = dialogue_examples(
        tokenizer,
        read.rows,
        max_length=max_length,
        answers_only=True,
        system_turn=system_turn,
        numbers=read.numbers,
    )
    print(f"{name}: {read.line(account.line())}")
    rows = [Row(torch.tensor(example.input_ids), torch.tensor(example.labels) != IGNORED, None) for example in examples]
    return rows, {"unusable": float(len(read.bad)), **account.metrics()}


def with_features(rows: Sequence[Row], target: PreTrainedModel) -> list[Row]:
    """The rows with the target's features, computed once where a row lacks them and kept in the CPU's memory."""
    kept: list[Row] = list(rows)
    missing = [place for place, row in enumerate(rows) if row.features is None]
    by_length = sorted(missing, key=lambda place: len(rows[place].ids))
    for start in range(0, len(by_length), ROWS_AT_ONCE):
        places = by_length[start : start + ROWS_AT_ONCE]
        features = target_features(target, _padded([rows[place].ids for place in places]).to(target.device))
        for place, own in zip(places, features, strict=True):
            row = rows[place]
            kept[place] = Row(row.ids, row.answers, own[: len(row.ids)].clone().cpu())
    return kept


def without_features(rows: Sequence[Row], target: PreTrainedModel) -> list[Row]:
    """The rows as they are: `collate` computes the features that they lack, each time."""
    del target
    return list(rows)


FEATURES: dict[str, Callable[[Sequence[Row], PreTrainedModel], list[Row]]] = {
    "kept": with_features,
    "each_step": without_features,
}


def target_features(target: PreTrainedModel, ids: TokenIds) -> Tensor:
    """Features after the target's final norm, (row, position, hidden), of rows padded on the right."""
    with torch.inference_mode():
        features = last_hidden_states(target, input_ids=ids)
    return features.clone()  # a tensor made in inference mode could not be saved for a backward pass


def collate(rows: Sequence[Row], target: PreTrainedModel) -> Batch:
    """The rows as one batch on the target's device; features that are not kept are computed."""
    device = target.device
    ids = _padded([row.ids for row in rows]).to(device)
    kept = [row.features for row in rows if row.features is not None]
    features = _padded(kept).to(device) if len(kept) == len(rows) else target_features(target, ids)
    lengths = torch.tensor([len(row.ids) for row in rows], device=device)
    return Batch(ids, _padded([row.answers for row in rows]).to(device), features, lengths)


def order(lengths: Sequence[int], *, batch: int, steps: int, seed: int) -> list[list[int]]:
    """Places of the rows of each step: epoch after epoch in another order, rows of like length together.

    A last batch that an epoch leaves short is filled from the next. Fewer rows than `batch` make smaller batches.
    """
    size = min(batch, len(lengths))
    stream: list[int] = []
    batches: list[list[int]] = []
    epoch = 0
    while len(batches) < steps:
        generator = torch.Generator().manual_seed(derive(seed, "order", epoch))
        stream += torch.randperm(len(lengths), generator=generator).tolist()
        whole = len(stream) // size * size
        for start in range(0, whole, size * SORTED_TOGETHER):
            block = sorted(stream[start : min(start + size * SORTED_TOGETHER, whole)], key=lambda row: lengths[row])
            shuffled = torch.randperm(len(block) // size, generator=generator).tolist()
            batches += [block[place * size : (place + 1) * size] for place in shuffled]
        stream = stream[whole:]
        epoch += 1
    return batches[:steps]


def _padded(tensors: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(tensors), batch_first=True)
