"""Answers of a causal model to a batch of prompts, with a key-value cache and a temperature for each row.

Prompts of unlike length are padded on the left; positions and masks are passed explicitly, so padding changes nothing.
Rows that have ended leave the batch and its cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from zephyr_lab.core.shapes import NextLogits, RowIds, RowNumbers, TokenIds, TokenMask
from zephyr_lab.models.causal import evaluating, one_by_one, positions_of

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
    require_prompts(model, prompts, max_new_tokens)
    if one_by_one(model, max(map(len, prompts), default=0) + max_new_tokens) is not None:
        rows_at_once = 1
    if generator is None and row_temperatures.any():
        raise ValueError("temperatures above 0 need a generator")
    uniforms = torch.zeros(len(prompts), max_new_tokens, dtype=torch.float64)
    if generator is not None:
        uniforms.uniform_(generator=generator)
    completions: dict[int, Completion] = {}
    with torch.inference_mode(), evaluating(model):
        for rows in by_length([len(prompt) for prompt in prompts], rows_at_once):
            batch = _complete(model, [prompts[row] for row in rows], row_temperatures[rows], uniforms[rows])
            completions.update(zip(rows, batch, strict=True))
    return [completions[row] for row in range(len(prompts))]


def by_length(lengths: Sequence[int], rows_at_once: int) -> list[list[int]]:
    """Row numbers in batches of like lengths, the shortest first: little padding."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[start : start + rows_at_once] for start in range(0, len(order), rows_at_once)]


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[TokenIds, TokenMask]:
    """Rows of ids as one tensor, padded on the left with id 0 (any would do), and the mask that is False there."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = True
    return ids, mask


def positions(mask: TokenMask) -> TokenIds:
    """Position of each token in its own row, counted from 0 at the first that is no padding (padding: 0)."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def choose(logits: NextLogits, temperatures: RowNumbers, uniforms: RowNumbers) -> RowIds:
    """Token of each row: the argmax at temperature 0, else a draw from softmax(logits / temperature).

    The draw reads the row's number from [0, 1), in float64: a row's token depends on nothing but its own logits and
    number, so neither its neighbours nor its place in the batch change it.
    """
    greedy = logits.argmax(dim=-1)
    if not temperatures.any():
        return greedy
    divisors = torch.where(temperatures > 0, temperatures, 1.0).double()
    drawn = draw(torch.softmax(logits.double() / divisors[:, None], dim=-1), uniforms)
    return torch.where(temperatures > 0, drawn, greedy)


def draw(weights: Float[Tensor, "row entry"], uniforms: RowNumbers) -> RowIds:
    """A draw from each row's weights, which need not sum to 1, by inverting the cumulative sum at its uniform."""
    cumulative = weights.double().cumsum(dim=-1)
    points = uniforms.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True).squeeze(-1).clamp(max=weights.shape[-1] - 1)


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
            input_ids=ids,
            attention_mask=mask,
            position_ids=place,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
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
    finished = torch.isin(last, stop_ids).tolist()
    rows = zip(answers.tolist(), lengths.tolist(), finished, strict=True)
    return [Completion(tuple(ids[:length]), ended) for ids, length, ended in rows]


def stop_tokens(model: PreTrainedModel) -> Tensor:
    """The ids that end an answer, from the model's configuration (some models have several). Raises ValueError."""
    ids = getattr(model.config.get_text_config(), "eos_token_id", None)
    if ids is None:
        raise ValueError("the model's config names no eos_token_id, so no answer would end")
    return torch.tensor([ids] if isinstance(ids, int) else ids, device=model.device)


def _row_temperatures(temperatures: float | Sequence[float], rows: int) -> Tensor:
    values = [float(temperatures)] * rows if isinstance(temperatures, int | float) else list(temperatures)
    if len(values) != rows:
        raise ValueError(f"temperatures: need one for each of {rows} prompts, got {len(values)}")
    if any(not 0 <= temperature < float("inf") for temperature in values):
        raise ValueError(f"temperatures must be finite and not negative, got {min(values)} to {max(values)}")
    return torch.tensor(values)


def require_prompts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, *, least: int = 1
) -> None:
    """Raises ValueError for a prompt of fewer than `least` tokens or beyond the model's positions with the answer."""
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    room = positions_of(model)
    for number, prompt in enumerate(prompts):
        require_prompt(number, prompt, least)
        if room is not None and len(prompt) + max_new_tokens > room:
            raise ValueError(
                f"prompt {number} has {len(prompt)} tokens; with {max_new_tokens} new ones they exceed the model's "
                f"{room} positions"
            )


def require_prompt(number: int, prompt: Sequence[int], least: int) -> None:
    """Raises ValueError for a prompt of fewer than `least` tokens: 1, or 2 for a feature draft."""
    if not prompt:
        raise ValueError(f"prompt {number} is empty")
    if len(prompt) < least:
        raise ValueError(f"prompt {number} has one token; a feature draft needs the feature of one before the last")
