"""A model's training or evaluation mode, and its dropout, and random numbers, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


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


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Inside, no dropout draws anything, whatever the mode; afterwards all is as before.

    A policy's answers are drawn without dropout: with it, a ratio to the policy that drew them would not start at 1.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.dropout._DropoutNd)]
    floats = [part for part in model.modules() if isinstance(part.__dict__.get("attention_dropout"), float)]
    before = [layer.p for layer in layers], [part.attention_dropout for part in floats]
    for layer in layers:
        layer.p = 0.0
    for part in floats:
        part.attention_dropout = 0.0
    try:
        yield
    finally:
        for layer, p in zip(layers, before[0], strict=True):
            layer.p = p
        for part, p in zip(floats, before[1], strict=True):
            part.attention_dropout = p


@contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """Random numbers drawn inside leave those outside as they are."""
    with torch.random.fork_rng([] if device.type == "cpu" else [device]):
        yield
