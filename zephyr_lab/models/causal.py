"""A causal model handled from outside: the model inside its wrappers, how long a text it takes, its mode for a while.

Wrappers are those of several devices, compilation and adapters.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from zephyr_lab.core.packed_rows import rope_fault

NAMES = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len", "max_sequence_length")


def causal_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside `model`, adapters in its layers included.

    Raises ValueError for adapters that put tokens before every row, and for what holds no transformers model.
    """
    inner = model
    while not isinstance(inner, PreTrainedModel):
        if hasattr(inner, "get_base_model"):  # peft
            if getattr(inner.active_peft_config, "is_prompt_learning", False):
                raise ValueError(
                    f"{type(inner).__name__} puts tokens of its own before every row (prompt learning), so places in a "
                    "row are not those of its ids; take an adapter inside the layers (LoRA, say), or whole logits"
                )
            inner = inner.get_base_model()
        elif isinstance(wrapped := getattr(inner, "module", getattr(inner, "_orig_mod", None)), nn.Module):
            inner = wrapped
        else:
            raise ValueError(f"{type(model).__name__} holds no transformers model: hand over a PreTrainedModel")
    return inner


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


def positions_of(model: PreTrainedModel) -> int | None:
    """The most tokens of a text that the model is made for; None where its config names no such number."""
    config = model.config.get_text_config()
    return next((room for name in NAMES if (room := getattr(config, name, None)) is not None and room > 0), None)


def one_by_one(model: nn.Module, longest: int) -> str | None:
    """Why texts of up to `longest` tokens must not share a batch, or None: rotary embeddings turn by the longest."""
    return rope_fault(causal_model(model).config.get_text_config(), longest)


def require_alike(model: nn.Module, lengths: Sequence[int]) -> None:
    """Raises ValueError where texts of these lengths, padded to one, would change each other (`one_by_one`)."""
    if len(set(lengths)) > 1 and (fault := one_by_one(model, max(lengths))) is not None:
        raise ValueError(f"{fault}; hand {type(causal_model(model)).__name__} one text at a time")


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Within, `model` is in training mode or not, as asked; afterwards each of its modules is in the mode it was in."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def evaluating(model: nn.Module) -> AbstractContextManager[None]:
    """Evaluation mode inside; afterwards each module is in the mode that it was in."""
    return in_mode(model, training=False)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Inside, no dropout draws anything, whatever the mode; afterwards all is as before.

    A policy's answers are drawn without dropout: with it, a ratio to the policy that drew them would not start at 1.
    """
    chances = [(layer, "p") for layer in model.modules() if isinstance(layer, nn.modules.dropout._DropoutNd)]
    chances += [
        (part, "attention_dropout")
        for part in model.modules()
        if isinstance(part.__dict__.get("attention_dropout"), float)
    ]
    before = [getattr(part, name) for part, name in chances]
    for part, name in chances:
        setattr(part, name, 0.0)
    try:
        yield
    finally:
        for (part, name), chance in zip(chances, before, strict=True):
            setattr(part, name, chance)


@contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """Random numbers drawn inside leave those outside as they are."""
    with torch.random.fork_rng([] if device.type == "cpu" else [device]):
        yield


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
