"""Attention over packed pairs: both responses look at one prompt, not at each other, and pairs not at other pairs.

Registered in transformers' attention interface, so a model's own modules run, with rotary positions, grouped heads and
sliding windows as they are. The queries go through `scaled_dot_product_attention` in blocks that meet only the keys
they may look at: half of a causal square, and less with a window. No map outlives its block.

The last layer runs for those tokens alone whose output is read (`selecting`): queries, output projection, feed-forward
part and final norm of a prompt's tokens feed nothing but logits that no preference loss looks at.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from zephyr_lab.core.packed_rows import asked_window, attention_set, window_fault
from zephyr_lab.losses.fast.pair_packing import PackedPairs, PairShape, Places
from zephyr_lab.losses.fast.supported import SLOW_PATH

SHARED_PROMPT = "zephyr_lab_shared_prompt"
QUERIES_AT_ONCE = 128
# What some models pass to their attention, and these blocks do not compute.
NOT_COMPUTED = {"softcap": "soft-capped scores", "s_aux": "attention sinks", "position_bias": "position biases"}

# Queries that one response's text [prompt | response] asks: positions `start` to `stop` - 1 of it.
QuerySpan = slice

# Decoder layers that are built as `_selected` reads them, and where each has its window from.
WINDOWS: dict[str, Callable[[nn.Module], int | None]] = {
    "transformers.models.llama.modeling_llama.LlamaDecoderLayer": lambda attention: None,
    "transformers.models.mistral.modeling_mistral.MistralDecoderLayer": lambda attention: (
        attention.config.sliding_window
    ),
    "transformers.models.mixtral.modeling_mixtral.MixtralDecoderLayer": lambda attention: (
        attention.config.sliding_window
    ),
    "transformers.models.qwen2.modeling_qwen2.Qwen2DecoderLayer": lambda attention: attention.sliding_window,
}


def all_queries(shape: PairShape) -> tuple[QuerySpan, QuerySpan]:
    """Every token once: prompt and chosen in the chosen's text, the rejected response in its own."""
    return slice(0, shape.prompt + shape.chosen), slice(shape.prompt, shape.prompt + shape.rejected)


def selected_queries(shape: PairShape) -> tuple[QuerySpan, QuerySpan]:
    """The tokens of `PackedPairs.selected`."""
    chosen = slice(shape.prompt - 1, shape.prompt + shape.chosen - 1)
    return chosen, slice(shape.prompt, shape.prompt + shape.rejected - 1)


@contextmanager
def attending(model: nn.Module) -> Iterator[None]:
    """Within, forward passes of `model` attend by `SHARED_PROMPT`; they need the argument `packed_pairs`."""
    from transformers import AttentionInterface, AttentionMaskInterface  # loaded already: the model is of its making

    AttentionInterface.register(SHARED_PROMPT, _registered)
    AttentionMaskInterface.register(SHARED_PROMPT, asked_window)
    with attention_set(model.config, SHARED_PROMPT):
        yield


@contextmanager
def selecting(model: nn.Module, packed: PackedPairs) -> Iterator[Places]:
    """Yields which tokens of the row `model.base_model` gives hidden states of inside: the selected ones, or all.

    All where the last layer is not one of `WINDOWS`, or its forward has been replaced already.
    """
    layer = model.base_model.layers[-1] if hasattr(model.base_model, "layers") else None
    name = f"{type(layer).__module__}.{type(layer).__qualname__}"
    if name not in WINDOWS or "forward" in vars(layer):
        yield packed.selected()[packed.before_targets()]
        return
    layer.forward = partial(_selected, layer, packed, packed.selected(), WINDOWS[name](layer.self_attn))
    try:
        yield packed.before_targets()
    finally:
        del layer.forward


def attend(
    query: Tensor, key: Tensor, value: Tensor, spans: list[tuple[QuerySpan, QuerySpan]],
    shapes: tuple[PairShape, ...], *, scale: float, window: int | None,
) -> Tensor:  # fmt: skip
    """What each query gets, shape (1, query, head, dim): softmax(scale * q k) v over its own text up to itself.

    `query` (1, head, query, dim) holds the spans' queries in order, `key` and `value` (1, kv_head, token, dim) the
    whole row. `window`: tokens that a query sees, itself included; None: all before it.
    """
    sizes = [span.stop - span.start for both in spans for span in both]
    queries = iter(query.split(sizes, dim=2))
    pieces = [size for shape in shapes for size in (shape.prompt + shape.chosen, shape.rejected)]
    keys, values = iter(key.split(pieces, dim=2)), iter(value.split(pieces, dim=2))
    outputs = []
    for shape, both in zip(shapes, spans, strict=True):
        chosen_text = next(keys), next(values)
        rejected_text = [
            torch.cat([whole[:, :, : shape.prompt], own], dim=2)
            for whole, own in zip(chosen_text, (next(keys), next(values)), strict=True)
        ]
        for span, (text_keys, text_values) in zip(both, (chosen_text, rejected_text), strict=True):
            outputs += _blocks(next(queries), text_keys, text_values, span, scale=scale, window=window)
    return torch.cat([part.transpose(1, 2) for part in outputs], dim=1)


def _blocks(
    query: Tensor, key: Tensor, value: Tensor, span: QuerySpan, *, scale: float, window: int | None
) -> Iterator[Tensor]:
    groups = query.shape[1] // key.shape[1]
    start = span.start
    for part in query.split(QUERIES_AT_ONCE, dim=2):
        stop = start + part.shape[2]
        oldest = 0 if window is None else max(0, start - window + 1)
        seen = key[:, :, oldest:stop], value[:, :, oldest:stop]
        if groups > 1 and query.device.type != "cpu":
            # Elsewhere a mask together with grouped heads falls back to whole maps.
            seen = seen[0].repeat_interleave(groups, dim=1), seen[1].repeat_interleave(groups, dim=1)
        banned = _bans(stop - start, stop - oldest, window, query.dtype, query.device)
        is_grouped = query.shape[1] != seen[0].shape[1]
        yield scaled_dot_product_attention(part, *seen, attn_mask=banned, scale=scale, enable_gqa=is_grouped)
        start = stop


def _bans(queries: int, keys: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 where a query may look and -inf elsewhere, shape (query, key); the last query is the last key's own."""
    whole = _all_bans((1 << (keys - 1).bit_length()) + QUERIES_AT_ONCE, window, dtype, device)
    first = whole.shape[1] - QUERIES_AT_ONCE + queries - keys
    return whole[:queries, first : first + keys]


@lru_cache(maxsize=16)
def _all_bans(keys: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Bans of a full block whose last query is the last key's own; those of smaller blocks are cut out of it."""
    query = torch.arange(keys - QUERIES_AT_ONCE, keys, device=device)[:, None]
    key = torch.arange(keys, device=device)[None]
    banned = key > query
    if window is not None:
        banned |= key <= query - window
    return torch.zeros(banned.shape, dtype=dtype, device=device).masked_fill_(banned, float("-inf"))


def _registered(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float | int = 0.0, scaling: float | None = None, packed_pairs: PackedPairs | None = None, **arguments: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """transformers' side of `attend`; refuses what it would have to leave out. Of a mask only its window is read."""
    if packed_pairs is None:
        raise ValueError(f"{type(module).__name__} does not hand its arguments on, so it cannot run packed pairs")
    spans = [all_queries(shape) for shape in packed_pairs.shapes]
    window = arguments.get("sliding_window")
    _require_computed(module, dropout, arguments)
    if (fault := window_fault(attention_mask, window)) is not None:
        raise ValueError(f"{type(module).__name__} has {fault}, which packed pairs lack: {SLOW_PATH}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(query, key, value, spans, packed_pairs.shapes, scale=scale, window=window), None


def _require_computed(module: nn.Module, dropout: float | int, arguments: dict[str, Any]) -> None:
    """Raises ValueError where a layer asks its attention for what `attend` does not compute."""
    for name, meaning in NOT_COMPUTED.items():
        if arguments.get(name) is not None:
            raise ValueError(f"{type(module).__name__} asks for {meaning}, which packed pairs lack: {SLOW_PATH}")
    if dropout:
        raise ValueError(f"attention dropout is {dropout:g}, packed pairs have none: set it to 0, or {SLOW_PATH}")


def _selected(
    layer: nn.Module, packed: PackedPairs, selected: Places, window: int | None, hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor], **_: Any,
) -> Tensor:  # fmt: skip
    """What the layer gives for the `selected` tokens, shape (1, place, hidden), from its own modules."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    attention = layer.self_attn
    residual = hidden_states.index_select(1, selected)
    everywhere = layer.input_layernorm(hidden_states)
    key = _heads(attention.k_proj(everywhere), attention.head_dim)
    value = _heads(attention.v_proj(everywhere), attention.head_dim)
    query = _heads(attention.q_proj(everywhere.index_select(1, selected)), attention.head_dim)
    cosine, sine = position_embeddings
    key, _ = apply_rotary_pos_emb(key, key[:, :0], cosine, sine)
    query, _ = apply_rotary_pos_emb(
        query, query[:, :0], cosine.index_select(1, selected), sine.index_select(1, selected)
    )
    _require_computed(attention, attention.attention_dropout if attention.training else 0.0, {})
    spans = [selected_queries(shape) for shape in packed.shapes]
    attended = attend(query, key, value, spans, packed.shapes, scale=attention.scaling, window=window)
    hidden = residual + attention.o_proj(attended.flatten(2))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _heads(projected: Tensor, dim: int) -> Tensor:
    return projected.unflatten(2, (-1, dim)).transpose(1, 2)
