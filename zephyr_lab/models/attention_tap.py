"""Queries and keys of each attention layer while a model runs, without a mask: what blocked attention losses take.

As `models.attention_maps.listening`, which also makes the square mask of each layer. Whoever knows the batch knows the
mask in its short form (window, padding, documents), so here none is made: beyond the model's own, nothing grows with
the square of positions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from zephyr_lab.models.attention_trial import SLOW_PATH, require_windows
from zephyr_lab.models.replaced_attention import refuse_dropout, replaced_attention, require_one_pass

TAPPED = "zephyr_lab_tapped"


@dataclass(frozen=True, slots=True)
class LayerTap:
    """One layer's rotated queries (row, head, position, dim), keys (row, kv_head, position, dim), scale and window."""

    layer: int
    queries: Tensor
    keys: Tensor
    scale: float
    window: int | None


Listener = Callable[[LayerTap], None]


@contextmanager
def tapping(model: nn.Module, listener: Listener) -> Iterator[None]:
    """Calls `listener` with each layer's queries and keys during forward passes of `model` inside, in layers' order.

    The tensors carry gradients where the pass does; the model attends by sdpa. Raises ValueError, naming the slow path,
    for a model whose attention cannot be replaced or whose maps are made of more (`attention_trial.require_windows`:
    capped scores, sinks, windows by mask alone), and for one in training with dropout in attention (its maps would not
    be those that attend) or gradient checkpointing.
    """
    require_windows(model)
    with replaced_attention(model, TAPPED, otherwise=SLOW_PATH, attention_tap=listener):
        require_one_pass(model)
        yield


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, **arguments: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The model's attention by sdpa, after the listener has seen what it is made of."""
    refuse_dropout(module, arguments)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = arguments.get("sliding_window")
    module.attention_tap(LayerTap(module.layer_idx, query, key, scale, window))
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scale, **arguments)


AttentionInterface.register(TAPPED, _attend)
AttentionMaskInterface.register(TAPPED, sdpa_mask)
