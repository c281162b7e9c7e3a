"""Names of tensor axes, checked as the tests run: the one module of `core` that knows torch.

row: a sequence of a batch; position: a place in it; entry: of the vocabulary; pair: a chosen and a rejected response.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TokenIds = Int[Tensor, "row position"]
TokenMask = Bool[Tensor, "row position"]
NextTokenScores = Float[Tensor, "row position-1"]  # of tokens 1, 2, ...: the first has nothing before it
Logits = Float[Tensor, "row position entry"]
NextLogits = Float[Tensor, "row entry"]
RowIds = Int[Tensor, " row"]
RowNumbers = Float[Tensor, " row"]
PairScores = Float[Tensor, " pair"]


def at_least_float32(tensor: Tensor) -> Tensor:
    """`tensor` in float32 where it is narrower, else itself.

    A loss is a small difference of large numbers: between log-probabilities in bfloat16 it is mostly rounding, and a
    divergence may come out negative.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def require_same_shape(**tensors: Tensor) -> None:
    """Raises ValueError naming the tensors and their shapes unless all have one shape: torch would broadcast."""
    if len({tuple(tensor.shape) for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes differ: {shapes}")
