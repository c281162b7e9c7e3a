"""Whether the queries and keys that a listener sees are all that a model's attention maps are made of.

Each model shows it on a few tokens, once: in every layer the map that the model's own eager attention makes is held
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
from transformers.masking_utils import sdpa_mask

from zephyr_lab.models.replaced_attention import replaced_attention
from zephyr_lab.models.wrapped import accepted, causal_model, evaluating

TRIAL = "zephyr_lab_trial"
TOKENS, WINDOW = 6, 3
WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size", "local_attention")
# What an attention function is given beside queries and keys and puts into its scores: small weights would hide it.
MORE = {
    "softcap": "soft-capped attention scores", "s_aux": "attention sinks", "sinks": "attention sinks",
    "position_bias": "attention scores with biases", "indices": "attention to chosen keys",
    "block_indices": "attention to chosen blocks",
}  # fmt: skip
SLOW_PATH = "load it with attn_implementation='eager' and use losses.attention_kd on its maps (whole_maps) instead"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one attention layer was given, and the map that it made of it by its own eager function."""

    layer: int
    queries: Tensor
    keys: Tensor
    scale: float
    mask: Tensor | None
    window: int | None
    more: tuple[str, ...]
    map: Tensor | None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What speaks against losses that take each layer's mask, and against those that take its window; None: nothing."""

    masks: str | None
    windows: str | None


_verdicts: WeakKeyDictionary[PreTrainedModel, _Verdict] = WeakKeyDictionary()


def require_maps(model: nn.Module) -> None:
    """Raises ValueError, naming the slow path, unless queries, keys and mask of each layer make its map."""
    _require(model, _verdict(model).masks, "losses on queries and keys")


def require_windows(model: nn.Module) -> None:
    """As `require_maps`, where of each layer's mask no more is known than the window that its attention is told."""
    _require(model, _verdict(model).windows, "blocked losses")


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
    seen: list[_Seen] = []
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
    common = next((what for one in seen for what in one.more), None)
    if common is None and layers != list(range(asked)):
        common = f"attention maps of layers {layers}, not one of each of its {asked}"
    if common is None and any(one.queries.shape[1] != config.num_attention_heads for one in seen):
        common = f"layers of other numbers of heads than the {config.num_attention_heads} of its configuration"
    if common is not None:
        return _Verdict(common, common)
    masks = _first(seen, "attention maps that are not its queries, keys and mask", _mask)
    windows = _first(seen, "a mask that its attention is not told (a window, say)", _near)
    return _Verdict(masks, masks or windows)


def _first(seen: list[_Seen], reason: str, mask_of: Callable[[_Seen], Tensor]) -> str | None:
    """`reason` and the first layer whose map is another than that of its queries and keys under a mask, if any."""
    for one in seen:
        allowed = mask_of(one)
        if allowed.dtype != torch.bool:
            return f"attention masks of numbers (layer {one.layer})"
        if one.map is None or not _alike(one, allowed):
            return f"{reason} (layer {one.layer})"
    return None


def _alike(one: _Seen, allowed: Tensor) -> bool:
    keys = one.keys.repeat_interleave(one.queries.shape[1] // one.keys.shape[1], dim=1)
    # In the order and precision of eager attention: large scores in bfloat16 are rounded by more than maps may differ.
    scores = one.queries @ keys.transpose(2, 3) * one.scale
    found = scores.float().masked_fill(~allowed, float("-inf")).softmax(dim=-1)
    tolerance = 8 * max(torch.finfo(tensor.dtype).eps for tensor in (one.map, one.queries)) + 1e-5
    return one.map.shape == found.shape and torch.allclose(one.map.float(), found, rtol=0.0, atol=tolerance)


def _mask(one: _Seen) -> Tensor:
    return _causal(one) if one.mask is None else one.mask


def _near(one: _Seen) -> Tensor:
    return _causal(one) if one.window is None else _causal(one).triu(1 - one.window)


def _causal(one: _Seen) -> Tensor:
    return torch.ones(TOKENS, TOKENS, dtype=torch.bool, device=one.queries.device).tril()


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


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, **arguments: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The module's own eager attention, after what it is made of has been noted."""
    allowed = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
    added = attention_mask
    if attention_mask is None or attention_mask.dtype == torch.bool:
        added = torch.zeros_like(allowed if attention_mask is None else attention_mask, dtype=query.dtype)
        added.masked_fill_(~(allowed if attention_mask is None else attention_mask), torch.finfo(query.dtype).min)
    own = {} if scaling is None else {"scaling": scaling}
    eager = sys.modules[type(module).__module__].eager_attention_forward
    output, weights = eager(module, query, key, value, added, **own, **arguments)
    module.attention_trial(
        _Seen(
            module.layer_idx, query, key, query.shape[-1] ** -0.5 if scaling is None else scaling, attention_mask,
            arguments.get("sliding_window"),
            tuple(what for name, what in MORE.items() if arguments.get(name) is not None), weights,
        )
    )  # fmt: skip
    return output, weights


AttentionInterface.register(TRIAL, _attend)
AttentionMaskInterface.register(TRIAL, sdpa_mask)
