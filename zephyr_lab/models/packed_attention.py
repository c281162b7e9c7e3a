"""Several texts in one row without padding: each attends to itself, in as many small squares as there are texts.

The model's modules stay as they are; its attention function is replaced while it runs. No mask of the whole row's
square is made, neither here nor by the model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from zephyr_lab.core.shapes import TokenIds
from zephyr_lab.models.replaced_attention import replaced_attention, require_one_pass

PACKED = "zephyr_lab_packed"
SLOW_PATH = "pad the texts to one length instead"
REFUSED = {"softcap": "soft-capped attention scores", "s_aux": "attention sinks"}


def packed_row(texts: Sequence[Tensor]) -> dict[str, TokenIds]:
    """input_ids and position_ids of one row that holds all texts (1-D ids each), positions anew with each text."""
    if any(not len(text) for text in texts) or not texts:
        raise ValueError(f"need texts of a token at least, got lengths {[len(text) for text in texts]}")
    places = [torch.arange(len(text), device=text.device) for text in texts]
    return {"input_ids": torch.cat(list(texts))[None], "position_ids": torch.cat(places)[None]}


@contextmanager
def packed(model: PreTrainedModel, lengths: Sequence[int]) -> Iterator[None]:
    """Inside, `model` reads one row in which texts of these lengths follow one another (`packed_row`), each for itself.

    Windows are kept. Raises ValueError, naming the slow path, for a model whose attention cannot be replaced, one in
    training with dropout in attention or gradient checkpointing, a row of another length and, at the first layer,
    scores that are capped or have sinks.
    """
    with replaced_attention(model, PACKED, otherwise=SLOW_PATH, packed_lengths=tuple(lengths)):
        require_one_pass(model)
        yield


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, **arguments: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of each text to itself, (row, position, head, dim)."""
    for name, what in REFUSED.items():
        if arguments.get(name) is not None:
            raise ValueError(f"{type(module).__name__} has {what}, which packing does not know; {SLOW_PATH}")
    lengths = module.packed_lengths
    if query.shape[0] != 1 or query.shape[2] != sum(lengths):
        raise ValueError(
            f"the model was given {query.shape[0]} rows of {query.shape[2]} tokens, packed are {sum(lengths)} in one"
        )
    window = arguments.get("sliding_window")
    parts = zip(*(one.split(list(lengths), dim=2) for one in (query, key, value)), strict=True)
    found = [_one_text(*part, window=window, scale=scaling) for part in parts]
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None  # as sdpa gives it


def _one_text(query: Tensor, key: Tensor, value: Tensor, *, window: int | None, scale: float | None) -> Tensor:
    shared = query.shape[1] != key.shape[1]
    length = query.shape[2]
    if window is None or length <= window:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=shared)
    near = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - window)
    return scaled_dot_product_attention(query, key, value, attn_mask=near, scale=scale, enable_gqa=shared)


def _no_mask(*_: Any, **__: Any) -> None:
    """Texts are kept apart by `_attend`."""


AttentionInterface.register(PACKED, _attend)
AttentionMaskInterface.register(PACKED, _no_mask)
