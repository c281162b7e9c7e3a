"""Gated feed-forward blocks that keep half as much for the backward pass: gate and up, not their products.

down(silu(gate) * up): autograd keeps gate, silu(gate), up and their product; three of four follow from two. Computing
them again is elementwise, so nothing is lost in time and the largest tensors of a layer go from four to two.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaMLP

SILU = (nn.SiLU, SiLUActivation)
PARTS = ("gate_proj", "up_proj", "down_proj")
CODE = ("co_code", "co_names", "co_consts", "co_freevars")


@contextmanager
def lean_feed_forward(model: nn.Module) -> Iterator[None]:
    """Inside, forward passes of `model` keep less; results and gradients are the same to rounding.

    Blocks of another make (adapters, biases, another activation, a formula of their own: limits, factors) and passes
    under autocast stay as they are.
    """
    blocks = [module for module in model.modules() if _fits(module)]
    for block in blocks:
        block.forward = partial(_forward, block)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _fits(module: nn.Module) -> bool:
    layers = [getattr(module, name, None) for name in PARTS]
    plain = all(type(layer) is nn.Linear and layer.bias is None for layer in layers)
    return plain and isinstance(getattr(module, "act_fn", None), SILU) and _is_llamas(module)


def _is_llamas(module: nn.Module) -> bool:
    """Whether the block's forward pass is Llama's, instruction by instruction: parts of the same names can be put
    together in other ways, and a few numbers would not show a limit that only large ones meet."""
    own, known = getattr(type(module).forward, "__code__", None), LlamaMLP.forward.__code__
    same = own is not None and all(getattr(own, part) == getattr(known, part) for part in CODE)
    return same and "forward" not in vars(module)


def _forward(block: nn.Module, hidden: Tensor) -> Tensor:
    if torch.is_autocast_enabled(hidden.device.type):
        return type(block).forward(block, hidden)
    return _Gated.apply(block.gate_proj(hidden), block.up_proj(hidden), block.down_proj.weight)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up, weight)
        return silu(gate).mul_(up) @ weight.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        gate, up, weight = ctx.saved_tensors
        opened = silu(gate)
        for_weight = None
        if ctx.needs_input_grad[2]:
            for_weight = gradient.flatten(0, -2).t() @ (opened * up).flatten(0, -2)
        onward = gradient @ weight
        for_up = opened.mul_(onward)
        return torch.ops.aten.silu_backward(onward.mul_(up), gate), for_up, for_weight
