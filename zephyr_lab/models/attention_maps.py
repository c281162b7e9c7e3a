"""Attention of a causal model, seen from outside: whole maps for pictures, queries and keys layer by layer for losses.

Whole maps of a batch have layers x heads x positions x positions numbers. A loss gets each layer's queries and keys
instead, while the model runs, whatever it makes of them; the model itself attends by `sdpa` and builds no map.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from zephyr_lab.models.attention_trial import SLOW_PATH, require_maps
from zephyr_lab.models.replaced_attention import refuse_dropout, replaced_attention, require_one_pass

LISTENING = "zephyr_lab_listening"


@dataclass(frozen=True, slots=True)
class LayerAttention:
    """One layer's rotated queries (row, head, position, dim) and keys (row, kv_head, position, dim).

    `allowed` (row or 1, 1, position, position) is True where a query may look: not ahead, not at padding, within the
    window, not into another packed document.
    """

    layer: int
    queries: Tensor
    keys: Tensor
    allowed: Tensor
    scale: float


Listener = Callable[[LayerAttention], None]


@contextmanager
def listening(model: nn.Module, listener: Listener) -> Iterator[None]:
    """Calls `listener` with each layer's attention during forward passes of `model` inside, in the layers' order.

    The tensors carry gradients where the pass does. Raises ValueError, naming the slow path, for a model whose
    attention cannot be replaced or whose maps are made of more (`attention_trial.require_maps`), and for one in
    training with dropout in attention or gradient checkpointing.
    """
    require_maps(model)
    with replaced_attention(model, LISTENING, otherwise=SLOW_PATH, attention_listener=listener):
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
            "take queries and keys from models.attention_maps.listening"
        )
    return model(**inputs, output_attentions=True, use_cache=False).attentions


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **arguments: Any,
) -> tuple[Tensor, Tensor | None]:
    """The model's attention by sdpa, after the listener has seen what it is made of."""
    refuse_dropout(module, arguments)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    module.attention_listener(LayerAttention(module.layer_idx, query, key, _allowed(query, attention_mask), scale))
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scale, **arguments)


def _allowed(query: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:  # plain causal attention, which sdpa masks by itself
        positions = query.shape[2]
        return torch.ones(positions, positions, dtype=torch.bool, device=query.device).tril()[None, None]
    return mask


AttentionInterface.register(LISTENING, _attend)
AttentionMaskInterface.register(LISTENING, sdpa_mask)
