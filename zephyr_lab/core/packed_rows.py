"""What a transformer must keep to when several texts are one row: asked of the model itself, by any code that packs.

Positions start anew with each text and attention keeps to it; whatever else lets one text reach another is detected
here or by a trial (`models.packed_attention`, `losses.fast.shared_prompt`). Models and configs are transformers' own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# Of a mask that an attention function must not leave out: neither causal nor a causal window.
OTHER_MASK = -1
ATTENTION_LAYERS = {"full_attention", "sliding_attention"}


@contextmanager
def attention_set(config: Any, implementation: str) -> Iterator[None]:
    """Within, `config` and the configs inside it name this attention; afterwards each names what it named before.

    transformers' own setter writes one name into all of them, so setting the outer one back would not undo it.
    """
    before = [(one, one._attn_implementation_internal) for one in _with_inner(config)]
    config._attn_implementation = implementation
    try:
        yield
    finally:
        for one, name in before:
            one._attn_implementation_internal = name


def _with_inner(config: Any) -> Iterator[Any]:
    yield config
    for name in config.sub_configs:
        if (inner := getattr(config, name, None)) is not None:
            yield from _with_inner(inner)


def asked_window(*, config: Any, local_size: int | None = None, use_vmap: bool = False, **arguments: Any) -> Tensor:
    """In place of a mask the window that it would have: 0 for none, `OTHER_MASK` for another form; (1, 1, 1, 1), CPU.

    To register in transformers' AttentionMaskInterface, whose arguments it takes. Layers hand it on to their
    attention function, which so learns what the model means even where it gets no window.
    """
    plain = not use_vmap and "allow_is_bidirectional_skip" not in arguments
    if plain and local_size is None:
        window = 0
    elif plain and local_size == getattr(config, "sliding_window", None):
        window = local_size
    else:
        window = OTHER_MASK
    return torch.full((1, 1, 1, 1), window)


def window_fault(asked: Tensor | None, passed: int | None) -> str | None:
    """What is wrong where a layer's mask is `asked_window`'s and its attention function gets `passed`; or None."""
    if asked is None:
        return "no mask that would tell which tokens it sees"
    if asked.numel() > 1:
        return "a mask of its own making"
    window = int(asked.item())
    if window == OTHER_MASK:
        return "a mask that is neither causal nor a sliding window (chunked or bidirectional attention)"
    if window == (passed or 0):
        return None
    if window == 0:
        return f"no sliding window in its mask, though its attention function is told {passed}"
    return f"a sliding window of {window} by its mask alone (its attention function is told {passed})"


def precision(model: Any) -> torch.dtype:
    """What the model's products are computed in here and now: autocast's type where it is on, else the weights'.

    The type of logits says less: under autocast some arrive in float32, made of products in bfloat16.
    """
    device = model.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype


def layer_fault(config: Any) -> str | None:
    """What is wrong where a config of a text model has layers that carry more than attention along a row; or None."""
    others = sorted(set(getattr(config, "layer_types", None) or ()) - ATTENTION_LAYERS)
    return f"layers of type {', '.join(others)} mix tokens in other ways than plain attention" if others else None


def rope_limits(config: Any) -> list[tuple[str, int]]:
    """Of each rotary embedding that turns by the longest text of a row: its kind and the tokens at which it begins."""
    parameters = getattr(config, "rope_parameters", None) or {}
    limits = []
    for kind in [one for one in parameters.values() if isinstance(one, dict)] or [parameters]:
        name = str(kind.get("rope_type"))
        if "dynamic" in name or name == "longrope":
            most = config.max_position_embeddings
            limits.append((name, min(kind.get("original_max_position_embeddings") or most, most)))
    return limits


def rope_fault(config: Any, longest: int) -> str | None:
    """What is wrong with texts of up to `longest` tokens in one row, for a text model of this config; or None.

    Dynamic and longrope embeddings turn by the longest text of the row, so the others' values would depend on it.
    """
    for name, limit in rope_limits(config):
        if longest >= limit:
            return (
                f"{name} rotary embeddings change for all texts of a row once one reaches {limit} tokens, "
                f"and the longest here has {longest}"
            )
    return None
