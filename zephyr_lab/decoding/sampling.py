"""Answers of a causal model to a batch of prompts, with a key-value cache and a temperature for each row.

Prompts of unlike length are padded on the left; positions and masks are passed explicitly, so padding changes nothing.
Rows that have ended leave the batch and its cache.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from zephyr_lab.core.shapes import NextLogits, RowIds, RowNumbers, TokenIds, TokenMask
from zephyr_lab.models.context import one_by_one, positions_of

ROWS_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Completion:
    """Tokens that a model gave: `ids` end on the stop token where `finished`, else at the limit of new tokens."""

    ids: tuple[int, ...]
    finished: bool


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperatures: float | Sequence[float],
    generator: torch.Generator | None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> list[Completion]:
    """A completion of each prompt, in their order; temperature 0 takes the most likely token.

    `temperatures`: one for all prompts, or one each. `generator` (CPU; None if all temperatures are 0) is drawn from
    once, a number for each prompt and step, before anything else: how prompts are batched changes no answer.
    Raises ValueError for an empty prompt, a negative temperature, or more tokens than the model has positions.
    """
    row_temperatures = _row_temperatures(temperatures, len(prompts))
    _require_room(model, prompts, max_new_tokens)
    longest = max(map(len, prompts), default=0) + max_new_tokens
    if one_by_one(model, longest) is not None:
        rows_at_once = 1
    if generator is None and row_temperatures.any():
        raise ValueError("temperatures above 0 need a generator")
    uniforms = torch.zeros(len(prompts), max_new_tokens, dtype=torch.float64)
    if generator is not None:
        uniforms.uniform_(generator=generator)
    completions: dict[int, Completion] = {}
    by_length = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))  # little padding
    with torch.inference_mode(), _evaluating(model):
        for start in range(0, len(by_length), rows_at_once):
            places = by_length[start : start + rows_at_once]
            batch = _complete(model, [prompts[place] for place in places], row_temperatures[places], uniforms[places])
            completions.update(zip(places, batch, strict=True))
    return [completions[place] for place in range(len(prompts))]


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[TokenIds, TokenMask]:
    """Rows of ids as one tensor, padded on the left with id 0 (any would do), and the mask that is False there."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, width - len(row) :] = torch.tensor(row)
        mask[place, width - len(row) :] = True
    return ids, mask


def positions(mask: TokenMask) -> TokenIds:
    """Position of each token in its own row, counted from 0 at the first that is no padding (padding: 0)."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def _complete(
    model: PreTrainedModel, prompts: list[Sequence[int]], temperatures: Tensor, uniforms: Tensor
) -> list[Completion]:
    """Completions of one batch. `uniforms` has shape (row, new token)."""
    device, stop_ids = model.device, stop_tokens(model)
    ids, mask = left_padded(prompts)
    ids, mask, temperatures, uniforms = (tensor.to(device) for tensor in (ids, mask, temperatures, uniforms))
    place = positions(mask)
    cache = DynamicCache(config=model.config)
    active = torch.arange(len(prompts), device=device)  # rows of the batch -> rows of the answer
    answers = torch.zeros(uniforms.shape, dtype=torch.long, device=device)
    lengths = torch.full((len(prompts),), uniforms.shape[1], device=device)
    for step in range(uniforms.shape[1]):
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=place, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]  # fmt: skip
        chosen = choose(logits, temperatures[active], uniforms[active, step])
        answers[active, step] = chosen
        going_on = torch.isin(chosen, stop_ids, invert=True)
        lengths[active[~going_on]] = step + 1
        if not going_on.any():
            break
        if not going_on.all():
            kept = going_on.nonzero().squeeze(1)
            cache.batch_select_indices(kept)
            active, chosen, mask, place = active[kept], chosen[kept], mask[kept], place[kept]
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        place = place[:, -1:] + 1
    last = answers.gather(1, lengths[:, None] - 1).squeeze(1)
    return [
        Completion(tuple(row[:length]), finished)
        for row, length, finished in zip(
            answers.tolist(), lengths.tolist(), torch.isin(last, stop_ids).tolist(), strict=True
        )
    ]


def stop_tokens(model: PreTrainedModel) -> Tensor:
    """The ids that end an answer, from the model's configuration (some models have several). Raises ValueError."""
    ids = getattr(model.config.get_text_config(), "eos_token_id", None)
    if ids is None:
        raise ValueError("the model's config names no eos_token_id, so no answer would end")
    return torch.tensor([ids] if isinstance(ids, int) else ids, device=model.device)


def _row_temperatures(temperatures: float | Sequence[float], rows: int) -> Tensor:
    given = [float(temperatures)] * rows if isinstance(temperatures, int | float) else list(temperatures)
    if len(given) != rows:
        raise ValueError(f"temperatures: need one for each of {rows} prompts, got {len(given)}")
    if any(not 0 <= temperature < float("inf") for temperature in given):
        raise ValueError(f"temperatures must be finite and not negative, got {min(given)} to {max(given)}")
    return torch.tensor(given)


def _require_room(model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    room = positions_of(model)
    for place, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {place} is empty")
        if room is not None and len(prompt) + max_new_tokens > room:
            raise ValueError(
                f"prompt {place} has {len(prompt)} tokens; with {max_new_tokens} new ones they exceed the model's "
                f"{room} positions"
            )


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Dropout off inside, as it was before afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def choose(logits: NextLogits, temperatures: RowNumbers, uniforms: RowNumbers) -> RowIds:
    """Token of each row: the argmax at temperature 0, else a draw from softmax(logits / temperature).

    The draw inverts the cumulative distribution at the row's number from [0, 1), in float64: a row's token depends on
    nothing but its own logits and number, so neither its neighbours nor its place in the batch change it.
    """
    greedy = logits.argmax(dim=-1)
    if not temperatures.any():
        return greedy
    divisors = torch.where(temperatures > 0, temperatures, 1.0).double()
    cumulative = torch.softmax(logits.double() / divisors[:, None], dim=-1).cumsum(dim=-1)
    points = uniforms.double()[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, points, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
    return torch.where(temperatures > 0, drawn, greedy)
