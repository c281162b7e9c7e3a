"""A draft's rows and its loss on a batch: which places count, what is summed over them, and by what it is divided.

Lin et al. 2026, arXiv 2603.09527, read from the authors' code (papers/eda/NOTES.md, sections 2 and 6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.core.shapes import TokenIds, TokenMask
from zephyr_lab.data import splits
from zephyr_lab.data.splits import Split
from zephyr_lab.decoding.sampling import by_length
from zephyr_lab.losses.draft import feature_losses, input_noise, padded_mean, soft_cross_entropies, token_mean
from zephyr_lab.methods.examples import IGNORED, dialogue_examples
from zephyr_lab.methods.recipes.draft import DraftSteps
from zephyr_lab.models.draft import FeatureDraft
from zephyr_lab.models.draft_files import Draft
from zephyr_lab.models.logits import last_hidden_states, logits_of

ROWS_AT_ONCE = 32
SORTED_TOGETHER = 8  # batches whose rows are sorted by length among each other, to save padding


@dataclass(frozen=True, slots=True)
class Row:
    """A dialogue: its ids, which of them are answers', and the target's features, None where they are not kept."""

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
    dialogues: Any, tokenizer: PreTrainedTokenizerBase, *, name: str, max_length: int, system_turn: bool
) -> tuple[list[Row], dict[str, float]]:
    """Dialogues as rows without features, and an account of them, printed as `name`; `Row`s come back as they are.

    Raises ValueError where no dialogue is usable.
    """
    if not isinstance(dialogues, Split):
        dialogues = list(splits.each_row(dialogues))
        if dialogues and all(isinstance(row, Row) for row in dialogues):
            return dialogues, {"rows": float(len(dialogues)), "used": float(len(dialogues))}
    read = splits.dialogues(dialogues)
    examples, account = dialogue_examples(
        tokenizer, read.rows, max_length=max_length, answers_only=True, system_turn=system_turn, numbers=read.numbers
    )
    print(f"{name}: {read.line(account.line())}")
    rows = [Row(torch.tensor(example.input_ids), torch.tensor(example.labels) != IGNORED, None) for example in examples]
    return rows, {"unusable": float(len(read.bad)), **account.metrics()}


def with_features(rows: Sequence[Row], target: PreTrainedModel) -> list[Row]:
    """The rows with the target's features, computed once where a row lacks them and kept in the CPU's memory."""
    kept: list[Row] = list(rows)
    missing = [place for place, row in enumerate(rows) if row.features is None]
    for batch in by_length([len(rows[place].ids) for place in missing], ROWS_AT_ONCE):
        places = [missing[number] for number in batch]
        features = target_features(target, _padded([rows[place].ids for place in places]).to(target.device))
        for place, own in zip(places, features, strict=True):
            kept[place] = replace(rows[place], features=own[: len(rows[place].ids)].clone().cpu())
    return kept


# "each_step": `collate` computes the features that rows lack, each time.
FEATURES: dict[str, Callable[[Sequence[Row], PreTrainedModel], list[Row]]] = {
    "kept": with_features,
    "each_step": lambda rows, target: list(rows),
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


def _padded(tensors: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(tensors), batch_first=True)


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


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows that go through the models at once, and their share of the batch's loss."""

    rows: Sequence[Row]
    share: float


def micro_batches(settings: DraftSteps, draft: Draft, rows: Sequence[Row]) -> list[MicroBatch]:
    """The batch `rows` in pieces of `micro_batch`; the shares weigh their losses so that the sum is the batch's.

    With reduction "tokens" the sum is exact. With "padded" each piece is padded by itself, as accumulated gradients of
    the authors' code are. Pieces in which nothing counts are left out. Raises ValueError where nothing does.
    """
    pieces = [rows[start : start + settings.micro_batch] for start in range(0, len(rows), settings.micro_batch)]
    counted, ahead = COUNTED[settings.counted], _ahead(draft)
    weights = [
        REDUCTIONS[settings.reduction].weight(
            piece, [int(counted(row.answers[None], ahead)[:, :-1].sum()) for row in piece]
        )
        for piece in pieces
    ]
    if not sum(weights):
        raise ValueError(
            f"no answer token counts in a batch of {len(rows)} rows: see max_length = {settings.max_length}"
        )
    return [MicroBatch(piece, own / sum(weights)) for piece, own in zip(pieces, weights, strict=True) if own]


def batch_loss(
    settings: DraftSteps, draft: Draft, target: PreTrainedModel, batch: Batch, *, noise: torch.Generator | None
) -> Tensor:
    """The loss on a batch in nats, a scalar; `noise` None: no noise on the features that the draft reads."""
    inside = torch.arange(batch.ids.shape[1], device=batch.ids.device) < batch.lengths[:, None] - 1
    # The last place of a row never counts: no token follows it.
    counted = COUNTED[settings.counted](batch.answers, _ahead(draft)) & inside
    mean = REDUCTIONS[settings.reduction].mean
    if isinstance(draft, FeatureDraft):
        return mean(_feature_losses(settings, draft, target, batch, counted, noise), batch)
    logits = draft(input_ids=batch.ids, use_cache=False).logits
    wanted = logits_of(target, batch.features[counted])
    return settings.token_weight * mean(soft_cross_entropies(logits[counted].float(), wanted.float()), batch)


def _feature_losses(
    settings: DraftSteps,
    draft: FeatureDraft,
    target: PreTrainedModel,
    batch: Batch,
    counted: TokenMask,
    noise: torch.Generator | None,
) -> Tensor:
    """feature_weight x SmoothL1 + token_weight x soft cross entropy of each pair that counts."""
    features = batch.features[:, :-1].to(draft.fc.weight.dtype)  # a draft in float32 of a target in bfloat16, say
    if noise is not None:
        features = features + input_noise(features, batch.lengths, width=settings.noise, generator=noise)
    following = batch.ids[:, 1:]
    places = torch.arange(1, batch.ids.shape[1], device=batch.ids.device).expand_as(following)
    guessed, _ = draft(following, features, places)
    guessed, true = guessed[counted[:, :-1]], batch.features[:, 1:][counted[:, :-1]]
    guessed_logits = logits_of(target, guessed.to(true.dtype))
    tokens = soft_cross_entropies(guessed_logits.float(), logits_of(target, true).float())
    return settings.feature_weight * feature_losses(guessed.float(), true.float()) + settings.token_weight * tokens


def _ahead(draft: Draft) -> int:
    """How many places after it the token is that the draft's output at a place predicts."""
    return 2 if isinstance(draft, FeatureDraft) else 1


def _predicting(answers: TokenMask, ahead: int) -> TokenMask:
    """Places whose output predicts an answer's token, `ahead` places later; none where the row ends before."""
    later = torch.zeros_like(answers)
    later[:, : -ahead or None] = answers[:, ahead:]
    return later


# Which places count; "input", as in the authors' code: those whose own token is an answer's.
COUNTED: dict[str, Callable[[TokenMask, int], TokenMask]] = {
    "predicted": _predicting,
    "input": lambda answers, ahead: answers,
}


@dataclass(frozen=True, slots=True)
class Reduction:
    """weight: a micro-batch's in its batch, from its rows and how many places of each count; mean: of its losses."""

    weight: Callable[[Sequence[Row], Sequence[int]], int]
    mean: Callable[[Tensor, Batch], Tensor]


REDUCTIONS = {
    "tokens": Reduction(lambda rows, counts: sum(counts), lambda losses, batch: token_mean(losses)),
    "padded": Reduction(
        lambda rows, counts: len(rows) * max(len(row.ids) for row in rows),
        lambda losses, batch: padded_mean(losses, rows=batch.ids.shape[0], padded_length=batch.ids.shape[1]),
    ),
}
