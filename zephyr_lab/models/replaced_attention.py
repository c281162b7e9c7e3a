"""Another attention function in a model's place for a while: its modules, weights and settings stay as they are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from zephyr_lab.core.packed_rows import attention_set
from zephyr_lab.models.wrapped import causal_model


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


def refuse_dropout(module: nn.Module, arguments: Mapping[str, Any]) -> None:
    """Raises ValueError where a layer asks its attention for dropout, by whatever setting: maps would not be those that
    attend."""
    if dropout := arguments.get("dropout"):
        raise ValueError(f"{type(module).__name__} has dropout of {dropout} in its attention; set it to 0 for training")
