"""The last decoder layer for those tokens alone whose output is read; keys and values still come from all tokens.

Queries, output projection, feed-forward part and final norm of a prompt's tokens feed nothing but logits that no
preference loss looks at. The layer's own modules run; only its `forward` is replaced while `selecting` is open.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from zephyr_lab.losses.fast.pair_packing import PackedPairs, Places
from zephyr_lab.losses.fast.shared_prompt_attention import attend, selected_queries, window_of


def _no_window(attention: nn.Module) -> int | None:
    return None


def _window_of_config(attention: nn.Module) -> int | None:
    return attention.config.sliding_window


def _window_of_layer(attention: nn.Module) -> int | None:
    return attention.sliding_window


# Decoder layers that are built as `_selected` reads them, and where each has its window from.
WINDOWS: dict[str, Callable[[nn.Module], int | None]] = {
    "transformers.models.llama.modeling_llama.LlamaDecoderLayer": _no_window,
    "transformers.models.mistral.modeling_mistral.MistralDecoderLayer": _window_of_config,
    "transformers.models.mixtral.modeling_mixtral.MixtralDecoderLayer": _window_of_config,
    "transformers.models.qwen2.modeling_qwen2.Qwen2DecoderLayer": _window_of_layer,
}


@contextmanager
def selecting(model: PreTrainedModel, packed: PackedPairs) -> Iterator[Places]:
    """Yields which tokens of the row `model.base_model` gives hidden states of inside: the selected ones, or all.

    All where the last layer is not one of `WINDOWS`, or somebody else has replaced its forward already.
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


def _selected(
    layer: nn.Module,
    packed: PackedPairs,
    selected: Places,
    window: int | None,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    **_: Any,
) -> Tensor:
    """What the layer gives for the `selected` tokens, shape (1, place, hidden)."""
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
    dropout = attention.attention_dropout if attention.training else 0.0
    attended = attend(
        query,
        key,
        value,
        [selected_queries(shape) for shape in packed.shapes],
        packed.shapes,
        scale=attention.scaling,
        window=window_of(attention, dropout, {"sliding_window": window}),
    )
    hidden = residual + attention.o_proj(attended.flatten(2))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _heads(projected: Tensor, dim: int) -> Tensor:
    return projected.unflatten(2, (-1, dim)).transpose(1, 2)
