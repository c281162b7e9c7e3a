"""The causal model inside its wrappers (several devices, compilation, adapters), and what its forward pass takes."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import nn
from transformers import PreTrainedModel


def causal_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside `model`, adapters in its layers included.

    Raises ValueError for adapters that put tokens before every row, and for what holds no transformers model.
    """
    found = model
    while not isinstance(found, PreTrainedModel):
        if hasattr(found, "get_base_model"):  # peft
            if getattr(found.active_peft_config, "is_prompt_learning", False):
                raise ValueError(
                    f"{type(found).__name__} puts tokens of its own before every row (prompt learning), so places in a "
                    "row are not those of its ids; take an adapter inside the layers (LoRA, say), or whole logits"
                )
            found = found.get_base_model()
        elif isinstance(inner := getattr(found, "module", getattr(found, "_orig_mod", None)), nn.Module):
            found = inner
        else:
            raise ValueError(f"{type(model).__name__} holds no transformers model: hand over a PreTrainedModel")
    return found


def share_weights(trained: nn.Module, still: nn.Module) -> bool:
    """Whether a weight that trains in `trained` is one of `still`, too, which would then move with it."""
    moving = {id(weight) for weight in trained.parameters() if weight.requires_grad}
    return any(id(weight) in moving for weight in still.parameters())


def accepted(module: nn.Module, **arguments: Any) -> dict[str, Any]:
    """Those of `arguments` that the module's own forward pass names: not every family keeps a cache, say."""
    return {name: value for name, value in arguments.items() if name in _named(type(module))}


@cache  # reading a signature takes longer than a small head
def _named(kind: type[nn.Module]) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards each module is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def instead(module: nn.Module, forward: Any) -> Iterator[None]:
    """Inside, `forward` runs in the place of the module's own forward pass."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
