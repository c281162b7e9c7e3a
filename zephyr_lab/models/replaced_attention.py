"""Another attention function in a model's place for a while: its modules, weights and settings stay as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel

from zephyr_lab.core.packed_rows import attention_set


@contextmanager
def replaced_attention(
    model: PreTrainedModel, implementation: str, *, otherwise: str, **attributes: Any
) -> Iterator[None]:
    """Inside, every attention layer of `model` has `attributes` and attends by the registered `implementation`.

    Raises ValueError for a model whose attention cannot be replaced, naming what to do `otherwise`.
    """
    if not getattr(model, "_supports_attention_backend", False):
        raise ValueError(f"{type(model).__name__} has no replaceable attention; {otherwise}")
    layers = [module for module in model.modules() if hasattr(module, "layer_idx") and hasattr(module, "q_proj")]
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


def require_one_pass(model: PreTrainedModel) -> None:
    """Raises ValueError for a model in training with dropout in its attention, which a replacement would leave out, or
    with gradient checkpointing, which would run its layers a second time, outside the replacement."""
    dropout = getattr(model.config, "attention_dropout", 0.0)
    if model.training and dropout:
        raise ValueError(f"attention_dropout is {dropout} and the model is in training mode; set it to 0")
    if model.training and model.is_activation_checkpointing:
        raise ValueError("gradient checkpointing would run the layers again with their usual attention; switch it off")
