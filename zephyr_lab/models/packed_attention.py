"""Several texts in one row without padding: each attends to itself, in as many small squares as there are texts.

The model's modules stay as they are; its attention function is replaced while it runs. No mask of the whole row's
square is made, neither here nor by the model.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from zephyr_lab.core.packed_rows import asked_window, layer_fault, precision, rope_fault, window_fault
from zephyr_lab.core.shapes import TokenIds
from zephyr_lab.models.attention import replaced_attention, require_one_pass
from zephyr_lab.models.causal import in_mode
from zephyr_lab.models.logits import body_of

PACKED = "zephyr_lab_packed"
SLOW_PATH = "pad the texts to one length instead"
REFUSED = {
    "softcap": "soft-capped attention scores", "s_aux": "attention sinks", "position_bias": "position biases",
}  # fmt: skip
# Relative difference of hidden states that rounding may make; reading on from another text changes them by tens of %.
EXACT = {torch.float64: 1e-6, torch.float32: 1e-3}
ROUNDED = 1e-1
TRIAL = (17, 9, 5)  # tokens of the texts that a model is tried on

_tried: WeakSet[PreTrainedModel] = WeakSet()  # packed by `packed`
_tried_as_they_are: WeakSet[PreTrainedModel] = WeakSet()  # kept apart by positions, in the model's own attention


def packed_row(texts: Sequence[Tensor]) -> dict[str, TokenIds]:
    """input_ids and position_ids of one row that holds all texts (1-D ids each), positions anew with each text."""
    if any(not len(text) for text in texts) or not texts:
        raise ValueError(f"need texts of a token at least, got lengths {[len(text) for text in texts]}")
    positions = [torch.arange(len(text), device=text.device) for text in texts]
    return {"input_ids": torch.cat(list(texts))[None], "position_ids": torch.cat(positions)[None]}


@contextmanager
def packed(model: PreTrainedModel, lengths: Sequence[int]) -> Iterator[None]:
    """Inside, `model` reads one row in which texts of these lengths follow one another (`packed_row`), each for itself.

    Windows are kept. Raises ValueError, naming the slow path, for a model whose attention cannot be replaced, one in
    training with dropout in attention or gradient checkpointing, texts that reach the length at which rotary embeddings
    change, a row of another length, at the first layer scores that are capped or have sinks or a window by mask alone
    and, at the first use, a model that carries more than attention from text to text (`require_apart`).
    """
    if model not in _tried:
        _try_out(model, _packed)
        _tried.add(model)
    with _packed(model, lengths):
        yield


@contextmanager
def _packed(model: PreTrainedModel, lengths: Sequence[int]) -> Iterator[None]:
    require_lengths(model, max(lengths))
    with replaced_attention(model, PACKED, otherwise=SLOW_PATH, packed_lengths=tuple(lengths)):
        require_one_pass(model)
        yield


def require_apart(model: PreTrainedModel, longest: int) -> None:
    """Raises ValueError unless `model` itself keeps texts of one row apart by positions that start anew with each.

    For packed rows that run by the model's own attention; `longest`: tokens of the longest text. Convolutions and
    linear or recurrent attention read on from one text into the next: found by a trial at the first call.
    """
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    require_lengths(model, longest)
    if model not in _tried_as_they_are:
        _try_out(model, lambda model, lengths: nullcontext())
        _tried_as_they_are.add(model)


def require_lengths(model: nn.Module, longest: int) -> None:
    """Raises ValueError where texts of up to `longest` tokens in one row change each other's rotary embeddings."""
    if (fault := rope_fault(model.config.get_text_config(), longest)) is not None:
        raise ValueError(f"no packing: {fault}; {SLOW_PATH}")


@torch.no_grad()
def _try_out(
    model: PreTrainedModel, packing: Callable[[PreTrainedModel, Sequence[int]], AbstractContextManager[None]]
) -> None:
    """Raises ValueError unless texts in one row have the hidden states that each has alone, token by token."""
    if (fault := layer_fault(model.config.get_text_config())) is not None:
        raise ValueError(f"no packing for this model: {fault}; {SLOW_PATH}")
    body_of(model)  # asked for before the attention is replaced: its own few ids would be taken for the texts
    vocabulary = model.config.get_text_config().vocab_size
    # From 1 on: the token 0 is often padding, whose embedding is 0.
    texts = [torch.arange(1, one + 1, device=model.device) * 7919 % vocabulary for one in TRIAL]
    with in_mode(model, training=False), packing(model, TRIAL):
        together, kind = _hidden(model, **packed_row(texts))
    with in_mode(model, training=False):
        alone = [_hidden(model, input_ids=text[None])[0] for text in texts]
    for ours, plain in zip(together.split(TRIAL), alone, strict=True):
        error = float((ours - plain).float().norm(dim=1).max() / plain.float().norm(dim=1).mean())
        if not error <= EXACT.get(kind, ROUNDED):
            raise ValueError(
                f"no packing for this model: texts in one row of {type(model).__name__} have other hidden states than "
                f"each has alone ({error:.0%} off), by layers that mix tokens in other ways than attention "
                f"(convolution, linear or recurrent attention) or by masks of their own; {SLOW_PATH}"
            )


def _hidden(model: PreTrainedModel, **inputs: Tensor) -> tuple[Tensor, torch.dtype]:
    """Last hidden states of one row, (token, hidden), by the model's own forward, and the type of its products."""
    caught: list[tuple[Tensor, torch.dtype]] = []
    hook = body_of(model).module.register_forward_hook(
        lambda module, args, output: caught.append((output.last_hidden_state[0], precision(model)))
    )
    try:
        model(**inputs, use_cache=False)
    finally:
        hook.remove()
    return caught[0]


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, **arguments: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of each text to itself, (row, position, head, dim)."""
    for name, meaning in REFUSED.items():
        if arguments.get(name) is not None:
            raise ValueError(f"{type(module).__name__} has {meaning}, which packing does not know; {SLOW_PATH}")
    if arguments.get("dropout"):
        raise ValueError(
            f"{type(module).__name__} has attention dropout of {arguments['dropout']:g}, packing has none; set it to 0"
        )
    if (fault := window_fault(attention_mask, arguments.get("sliding_window"))) is not None:
        raise ValueError(f"{type(module).__name__} has {fault}, which packing does not know; {SLOW_PATH}")
    if (lengths := getattr(module, "packed_lengths", None)) is None:
        raise ValueError(f"{type(module).__name__} is built in a way that packing does not know; {SLOW_PATH}")
    if query.shape[0] != 1 or query.shape[2] != sum(lengths):
        raise ValueError(
            f"the model was given {query.shape[0]} rows of {query.shape[2]} tokens, packed are {sum(lengths)} in one"
        )
    window = arguments.get("sliding_window")
    parts = zip(*(one.split(list(lengths), dim=2) for one in (query, key, value)), strict=True)
    outputs = [_one_text(*part, window=window, scale=scaling) for part in parts]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None  # as sdpa gives it


def _one_text(query: Tensor, key: Tensor, value: Tensor, *, window: int | None, scale: float | None) -> Tensor:
    shared = query.shape[1] != key.shape[1]
    length = query.shape[2]
    if window is None or length <= window:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=shared)
    near = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - window)
    return scaled_dot_product_attention(query, key, value, attn_mask=near, scale=scale, enable_gqa=shared)


AttentionInterface.register(PACKED, _attend)
AttentionMaskInterface.register(PACKED, asked_window)
