"""Attention of a causal model, seen from outside: replaced for a while, or listened to layer by layer.

Whole maps of a batch have layers x heads x positions x positions numbers. A loss gets each layer's queries and keys
instead, while the model runs; the model itself attends by `sdpa` and builds no map. Whether these are all that its maps
are made of, each model shows once, on a few tokens: in every layer the map that its own eager attention makes is held
against softmax(scale * q k) under the layer's mask, and under its window alone. Windows are small meanwhile, so that
few tokens cross them.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from zephyr_lab.core.packed_rows import attention_set
from zephyr_lab.models.causal import accepted, causal_model, evaluating

LISTENING, TRIAL = "zephyr_lab_listening", "zephyr_lab_trial"
TOKENS, WINDOW = 6, 3  # of the trial
WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size", "local_attention")
# What an attention function is given beside queries and keys and puts into its scores: small weights would hide it.
MORE = {
    "softcap": "soft-capped attention scores", "s_aux": "attention sinks", "sinks": "attention sinks",
    "position_bias": "attention scores with biases", "indices": "attention to chosen keys",
    "block_indices": "attention to chosen blocks",
}  # fmt: skip
SLOW_PATH = "load it with attn_implementation='eager' and use losses.attention_kd on its maps (whole_maps) instead"


@dataclass(frozen=True, slots=True)
class LayerTap:
    """One layer's rotated queries (row, head, position, dim), keys (row, kv_head, position, dim), scale and window."""

    layer: int
    queries: Tensor
    keys: Tensor
    scale: float
    window: int | None


@dataclass(frozen=True, slots=True)
class LayerAttention(LayerTap):
    """`allowed` (row or 1, 1, position, position) is True where a query may look: not ahead, not at padding, within the
    window, not into another packed document."""

    allowed: Tensor


@contextmanager
def replaced_attention(model: nn.Module, implementation: str, *, otherwise: str, **attributes: Any) -> Iterator[None]:
    """Inside, every attention layer of `model` has `attributes` and attends by the registered `implementation`.

    The model may be wrapped or carry adapters. Raises ValueError where attention cannot be replaced, naming what to do
    `otherwise`.
    """
    model = causal_model(model)
    if not getattr(model, "_supports_attention_backend", False):
        raise ValueError(f"{type(model).__name__} has no replaceable attention; {otherwise}")
    # By their number alone: families name their projections as they like (qkv_proj, c_attn, query_key_value).
    layers = [module for module in model.modules() if hasattr(module, "layer_idx")]
    for layer in layers:
        for name, value in attributes.items():
            setattr(layer, name, value)
    try:
        with attention_set(model.config, implementation):
            yield
    finally:
        for layer in layers:
            for name in attributes:
                delattr(layer, name)


def require_one_pass(model: nn.Module) -> None:
    """Raises ValueError for a model in training with dropout in its attention, which a replacement would leave out, or
    with gradient checkpointing, which would run its layers a second time, outside the replacement."""
    model = causal_model(model)
    dropout = getattr(model.config, "attention_dropout", 0.0)
    if model.training and dropout:
        raise ValueError(f"attention_dropout is {dropout} and the model is in training mode; set it to 0")
    if model.training and model.is_activation_checkpointing:
        raise ValueError("gradient checkpointing would run the layers again with their usual attention; switch it off")


@contextmanager
def listening(model: nn.Module, listener: Callable[[LayerAttention], None]) -> Iterator[None]:
    """Calls `listener` with each layer's attention during forward passes of `model` inside, in the layers' order.

    The tensors carry gradients where the pass does. Raises ValueError, naming the slow path, for a model whose
    attention cannot be replaced or whose maps are made of more (`require_maps`), and for one in training with dropout
    in attention (its maps would not be those that attend) or gradient checkpointing.
    """

    def with_mask(tap: LayerTap, mask: Tensor | None) -> None:
        allowed = _causal(tap.queries)[None, None] if mask is None else mask
        listener(LayerAttention(tap.layer, tap.queries, tap.keys, tap.scale, tap.window, allowed))

    require_maps(model)
    with replaced_attention(model, LISTENING, otherwise=SLOW_PATH, attention_listener=with_mask):
        require_one_pass(model)
        yield


@contextmanager
def tapping(model: nn.Module, listener: Callable[[LayerTap], None]) -> Iterator[None]:
    """As `listening`, without a mask, for losses that know it in its short form (window, padding, documents): beyond
    the model's own, nothing grows with the square of positions.

    Refused are also models with windows by mask alone (`require_windows`).
    """
    require_windows(model)
    with replaced_attention(model, LISTENING, otherwise=SLOW_PATH, attention_listener=lambda tap, _: listener(tap)):
        require_one_pass(model)
        yield


def whole_maps(model: PreTrainedModel, **inputs: Any) -> tuple[Tensor, ...]:
    """The attention map of each layer, (row, head, query, key) each. Needs a model loaded with "eager" attention.

    Raises ValueError for any other: it would return none.
    """
    used = model.config._attn_implementation
    if used != "eager":
        raise ValueError(
            f"attention implementation {used!r} gives no maps; load the model with attn_implementation='eager', or "
            "take queries and keys from models.attention.listening"
        )
    return model(**inputs, output_attentions=True, use_cache=False).attentions


def require_maps(model: nn.Module) -> None:
    """Raises ValueError, naming the slow path, unless queries, keys and mask of each layer make its map."""
    _require(model, _verdict(model).masks, "losses on queries and keys")


def require_windows(model: nn.Module) -> None:
    """As `require_maps`, where of each layer's mask no more is known than the window that its attention is given."""
    _require(model, _verdict(model).windows, "blocked losses")


@dataclass(frozen=True, slots=True)
class _Trial(LayerTap):
    """What one attention layer was given, and the map that it made of it by its own eager function."""

    mask: Tensor | None
    more: tuple[str, ...]
    map: Tensor | None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What speaks against losses that take each layer's mask, and against those that take its window; None: nothing."""

    masks: str | None
    windows: str | None


_verdicts: WeakKeyDictionary[PreTrainedModel, _Verdict] = WeakKeyDictionary()


def _require(model: nn.Module, reason: str | None, losses: str) -> None:
    if reason is not None:
        raise ValueError(f"{type(causal_model(model)).__name__} has {reason}, which {losses} do not know; {SLOW_PATH}")


def _verdict(model: nn.Module) -> _Verdict:
    causal = causal_model(model)
    if causal not in _verdicts:
        _verdicts[causal] = _tried(causal)
    return _verdicts[causal]


@torch.no_grad()
def _tried(model: PreTrainedModel) -> _Verdict:
    seen: list[_Trial] = []
    config = model.config.get_text_config()
    ids = torch.arange(3, 3 + TOKENS, device=model.device)[None] % config.vocab_size
    with replaced_attention(model, TRIAL, otherwise=SLOW_PATH, attention_trial=seen.append), _small_windows(model):
        try:
            with evaluating(model):
                type(model).forward(model, input_ids=ids, **accepted(model, use_cache=False))
        except (AttributeError, TypeError, ValueError, RuntimeError, LookupError) as error:
            reason = f"attention that cannot be followed ({type(error).__name__}: {error})".splitlines()[0]
            return _Verdict(reason, reason)
    layers, asked = [one.layer for one in seen], config.num_hidden_layers
    common = next((meaning for one in seen for meaning in one.more), None)
    if common is None and layers != list(range(asked)):
        common = f"attention maps of layers {layers}, not one of each of its {asked}"
    if common is None and any(one.queries.shape[1] != config.num_attention_heads for one in seen):
        common = f"layers of other numbers of heads than the {config.num_attention_heads} of its configuration"
    if common is not None:
        return _Verdict(common, common)
    masks = _first(seen, "attention maps that are not its queries, keys and mask", _mask)
    windows = _first(seen, "a mask that its attention is not told (a window, say)", _near)
    return _Verdict(masks, masks or windows)


def _first(seen: list[_Trial], reason: str, mask_of: Callable[[_Trial], Tensor]) -> str | None:
    """`reason` and the first layer whose map differs from that of its queries and keys under a mask, if any."""
    for one in seen:
        allowed = mask_of(one)
        if allowed.dtype != torch.bool:
            return f"attention masks of numbers (layer {one.layer})"
        if one.map is None or not _is_map(one, allowed):
            return f"{reason} (layer {one.layer})"
    return None


def _is_map(one: _Trial, allowed: Tensor) -> bool:
    keys = one.keys.repeat_interleave(one.queries.shape[1] // one.keys.shape[1], dim=1)
    # In the order and precision of eager attention: large scores in bfloat16 are rounded by more than maps may differ.
    scores = one.queries @ keys.transpose(2, 3) * one.scale
    weights = scores.float().masked_fill(~allowed, float("-inf")).softmax(dim=-1)
    tolerance = 8 * max(torch.finfo(tensor.dtype).eps for tensor in (one.map, one.queries)) + 1e-5
    return one.map.shape == weights.shape and torch.allclose(one.map.float(), weights, rtol=0.0, atol=tolerance)


def _mask(one: _Trial) -> Tensor:
    return _causal(one.queries) if one.mask is None else one.mask


def _near(one: _Trial) -> Tensor:
    return _causal(one.queries) if one.window is None else _causal(one.queries).triu(1 - one.window)


def _causal(queries: Tensor) -> Tensor:
    positions = queries.shape[2]
    return torch.ones(positions, positions, dtype=torch.bool, device=queries.device).tril()


@contextmanager
def _small_windows(model: PreTrainedModel) -> Iterator[None]:
    """Windows of `WINDOW` inside, in configurations and in layers that keep a copy."""
    holders = list(model.modules())
    holders += {
        id(config): config for part in holders if (config := getattr(part, "config", None)) is not None
    }.values()
    before = [
        (holder, name, value)
        for holder in holders
        for name in WINDOWS
        if type(value := vars(holder).get(name)) is int and value > WINDOW
    ]
    for holder, name, _ in before:
        setattr(holder, name, WINDOW)
    try:
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)


def _listened(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, **arguments: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The model's attention by sdpa, after the listener has seen what it is made of."""
    if dropout := arguments.get("dropout"):  # by whatever setting
        raise ValueError(f"{type(module).__name__} has dropout of {dropout} in its attention; set it to 0 for training")
    module.attention_listener(_tap(module, query, key, scaling, arguments), attention_mask)
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **arguments)


def _tap(module: nn.Module, query: Tensor, key: Tensor, scaling: float | None, arguments: dict[str, Any]) -> LayerTap:
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return LayerTap(module.layer_idx, query, key, scale, arguments.get("sliding_window"))


def _eager(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, **arguments: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The module's own eager attention, after what it is made of has been noted."""
    allowed = attention_mask
    if attention_mask is None:
        allowed = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
    added = allowed
    if allowed.dtype == torch.bool:
        added = torch.zeros_like(allowed, dtype=query.dtype)
        added.masked_fill_(~allowed, torch.finfo(query.dtype).min)
    own = {} if scaling is None else {"scaling": scaling}
    eager = sys.modules[type(module).__module__].eager_attention_forward
    output, weights = eager(module, query, key, value, added, **own, **arguments)
    more = tuple(meaning for name, meaning in MORE.items() if arguments.get(name) is not None)
    tap = _tap(module, query, key, scaling, arguments)
    module.attention_trial(
        _Trial(tap.layer, tap.queries, tap.keys, tap.scale, tap.window, attention_mask, more, weights)
    )
    return output, weights


for _name, _function in ((LISTENING, _listened), (TRIAL, _eager)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, sdpa_mask)
