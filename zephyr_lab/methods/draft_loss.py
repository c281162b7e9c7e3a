"""A draft's loss on a batch: which places count, what is summed over them, and by what the sum is divided.

Lin et al. 2026, arXiv 2603.09527, read from the authors' code (papers/eda/NOTES.md, sections 2 and 6).
"""

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


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows that go through the models at once, and what share of their batch's loss is theirs."""

    rows: Sequence[Row]
    share: float


def micro_batches(settings: DraftSteps, draft: Draft, rows: Sequence[Row]) -> list[MicroBatch]:
    """The batch `rows` in pieces of `micro_batch`; the shares weigh their losses so that the sum is the batch's.

    With reduction "tokens" the sum is exact. With "padded" each piece is padded by itself, as accumulated gradients of
    the authors' code are. Pieces in which nothing counts are left out. Raises ValueError where nothing does.
    """
    pieces = [rows[start : start + settings.micro_batch] for start in range(0, len(rows), settings.micro_batch)]
    weight = REDUCTIONS[settings.reduction].weight
    ahead = _ahead(draft)
    weights = [weight(piece, [_places(settings, row, ahead) for row in piece]) for piece in pieces]
    if not sum(weights):
        raise ValueError(
            f"no answer token counts in a batch of {len(rows)} rows: see max_length = {settings.max_length}"
        )
    return [MicroBatch(piece, own / sum(weights)) for piece, own in zip(pieces, weights, strict=True) if own]


def batch_loss(
    settings: DraftSteps, draft: Draft, target: PreTrainedModel, batch: Batch, *, noise: torch.Generator | None
) -> Tensor:
    """The loss on a batch in nats, a scalar; `noise` None: no noise on the features that the draft reads."""
    if isinstance(draft, FeatureDraft):
        return _feature_loss(settings, draft, target, batch, noise)
    logits = draft(input_ids=batch.ids, use_cache=False).logits
    counted = _counted(settings, batch, _ahead(draft))
    wanted = logits_of(target, batch.features[counted])
    losses = soft_cross_entropies(logits[counted].float(), wanted.float())
    return settings.token_weight * _reduced(settings, losses, batch)


def _feature_loss(
    settings: DraftSteps, draft: FeatureDraft, target: PreTrainedModel, batch: Batch, noise: torch.Generator | None
) -> Tensor:
    """feature_weight x SmoothL1 + token_weight x soft cross entropy over the pairs that count."""
    features = batch.features[:, :-1].to(draft.fc.weight.dtype)  # a draft in float32 of a target in bfloat16, say
    if noise is not None:
        features = features + input_noise(features, batch.lengths, width=settings.noise, generator=noise)
    following = batch.ids[:, 1:]
    places = torch.arange(1, batch.ids.shape[1], device=batch.ids.device).expand_as(following)
    guessed, _ = draft(following, features, places)
    counted = _counted(settings, batch, _ahead(draft))
    guessed, true = guessed[counted[:, :-1]], batch.features[:, 1:][counted[:, :-1]]
    said = logits_of(target, guessed.to(true.dtype))
    tokens = soft_cross_entropies(said.float(), logits_of(target, true).float())
    whole = settings.feature_weight * feature_losses(guessed.float(), true.float()) + settings.token_weight * tokens
    return _reduced(settings, whole, batch)


def _ahead(draft: Draft) -> int:
    """How many places on the token stands that the draft's output at a place predicts."""
    return 2 if isinstance(draft, FeatureDraft) else 1


def _places(settings: DraftSteps, row: Row, ahead: int) -> int:
    """How many places of a row count (`_counted`)."""
    return int(COUNTED[settings.counted](row.answers[None], ahead)[:, :-1].sum())


def _counted(settings: DraftSteps, batch: Batch, ahead: int) -> TokenMask:
    """Places that count, (row, position). The last of a row never does: no token follows it."""
    inside = torch.arange(batch.ids.shape[1], device=batch.ids.device) < batch.lengths[:, None] - 1
    return COUNTED[settings.counted](batch.answers, ahead) & inside


def _predicted(answers: TokenMask, ahead: int) -> TokenMask:
    """Places whose output predicts an answer's token, `ahead` places on; none where the row ends before."""
    later = torch.zeros_like(answers)
    later[:, : -ahead or None] = answers[:, ahead:]
    return later


def _own(answers: TokenMask, ahead: int) -> TokenMask:
    """Places whose own token is an answer's, as in the authors' code."""
    del ahead
    return answers


COUNTED: dict[str, Callable[[TokenMask, int], TokenMask]] = {"predicted": _predicted, "input": _own}


@dataclass(frozen=True, slots=True)
class Reduction:
    """weight: a micro-batch's in its batch, from its rows and how many places of each count; mean: of its losses."""

    weight: Callable[[Sequence[Row], Sequence[int]], int]
    mean: Callable[[Tensor, Batch], Tensor]


def _counted_places(rows: Sequence[Row], places: Sequence[int]) -> int:
    del rows
    return sum(places)


def _padded_places(rows: Sequence[Row], places: Sequence[int]) -> int:
    del places
    return len(rows) * max(len(row.ids) for row in rows)


def _over_counted(losses: Tensor, batch: Batch) -> Tensor:
    del batch
    return token_mean(losses)


def _over_padded(losses: Tensor, batch: Batch) -> Tensor:
    return padded_mean(losses, rows=batch.ids.shape[0], padded_length=batch.ids.shape[1])


REDUCTIONS = {
    "tokens": Reduction(_counted_places, _over_counted),
    "padded": Reduction(_padded_places, _over_padded),
}


def _reduced(settings: DraftSteps, losses: Tensor, batch: Batch) -> Tensor:
    return REDUCTIONS[settings.reduction].mean(losses, batch)
