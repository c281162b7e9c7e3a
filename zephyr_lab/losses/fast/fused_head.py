"""An output head and its loss in one pass: no [token, entry] tensor, gradients made on the way forward.

A tile of rows of logits is computed, valued, replaced by its gradient and spent on the gradients of hidden states and
head: as many matrix products as autograd takes, without the logits of all tokens. What values a tile is an `Objective`;
`kd_head` has one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr_lab.losses.map_shapes import Scalar

Hidden = Float[Tensor, "token hidden"]
TeacherHidden = Float[Tensor, "teacher_token teacher_hidden"]
TokenShares = Float[Tensor, " token"]
BothShares = Float[Tensor, "2 token"]
NextIds = Int[Tensor, " token"]

CPU_TILE, CPU_BLOCK = 2**21, 2**18  # logits: what the products work on, what elementwise steps keep in a core's cache
GPU_TILE = 2**26
CPU_ENTRIES = 2048  # of the head that a product reads at once: with few rows a fifth faster than all


@dataclass(frozen=True, slots=True)
class LinearHead:
    """logits = hidden @ weight.T + bias; weight (entry, hidden), bias (entry,) or None.

    Whether a model's head is no more than this, `models.plain_head` finds out.
    """

    weight: Float[Tensor, "entry hidden"]
    bias: Float[Tensor, " entry"] | None = None

    @property
    def entries(self) -> int:
        return len(self.weight)

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        """The logits of some rows, written into the first of `out`."""
        out = out[: len(hidden)]
        step = CPU_ENTRIES if hidden.device.type == "cpu" else self.entries
        for start in range(0, self.entries, step):
            part = slice(start, start + step)
            torch.mm(hidden, self.weight[part].t(), out=out[:, part])
        return out if self.bias is None else out.add_(self.bias)

    def detached(self, dtype: torch.dtype) -> "LinearHead":
        bias = None if self.bias is None else self.bias.detach().to(dtype)
        return LinearHead(self.weight.detach().to(dtype), bias)


class HeadLosses(NamedTuple):
    """loss carries the gradient; the next two are the weighted sums that it is mixed from, as plain numbers, and scores
    what they are sums of: prediction loss and cross-entropy of each token, (2, token)."""

    loss: Scalar
    prediction: Scalar
    cross_entropy: Scalar
    scores: Tensor


@runtime_checkable
class Objective(Protocol):
    """What a tile of logits is worth."""

    def slopes(self, rows: slice, logits: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor]:
        """Prediction loss and cross-entropy of each row; replaces logits by the gradient of `total` of their sums.

        shares: of the rows in either sum, (2, row); None: no gradient is wanted, and logits are used up.
        """
        ...

    def total(self, prediction: Tensor, cross_entropy: Tensor) -> Tensor:
        """The loss that is trained, of the two sums."""
        ...


def fused(hidden: Hidden, head: LinearHead, shares: BothShares, objective: Objective) -> HeadLosses:
    """The objective's total of the sums over tokens of share * loss, made tile by tile.

    shares: of each token in the prediction loss and in the cross-entropy. A second backward through the loss raises
    RuntimeError. Raises ValueError where sizes do not fit, and for float16.
    """
    refuse_half(hidden)
    if hidden.shape[1] != head.weight.shape[1]:
        raise ValueError(f"hidden has {hidden.shape[1]} features, the head takes {head.weight.shape[1]}")
    if shares.requires_grad:
        raise ValueError("shares must be plain numbers: no gradient is made for them; detach() them")
    return HeadLosses(*_Fused.apply(hidden, head.weight, head.bias, shares, objective))


def refuse_half(tensor: Tensor) -> None:
    """Raises ValueError for float16."""
    if tensor.dtype == torch.float16:
        raise ValueError(
            "float16 gradients need a scaled loss, and these are made before it is scaled; use bfloat16, or the plain "
            "forms of zephyr_lab.losses"
        )


def mean_of_tokens(counted: Tensor) -> Tensor:
    """Shares of the mean over all counted positions of a batch, for `hidden[counted]`; (token,)."""
    count = int(counted.sum())
    return torch.full((count,), 1 / max(count, 1), dtype=torch.float64, device=counted.device)


def mean_of_sequences(counted: Tensor) -> Tensor:
    """Shares of the mean over rows of each row's mean (eq. 2 as printed), for `hidden[counted]`; (token,)."""
    lengths = counted.sum(dim=1)
    rows = (lengths > 0).sum().clamp(min=1)
    return (1 / (rows * lengths.clamp(min=1)).double())[:, None].expand(counted.shape)[counted]


def in_blocks(logits: Tensor, block: Callable[[slice, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """What `Objective.slopes` gives, made of `block(rows, their logits)` on as many rows as a core's cache holds.

    `block` gets the logits in float32 at least, and makes them the slopes in place. On a GPU all rows are one block.
    """
    rows, entries = logits.shape
    step = max(1, CPU_BLOCK // entries) if logits.device.type == "cpu" else rows
    found = []
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        own = logits[part].to(wide(logits.dtype))
        found.append(block(part, own))
        if own.dtype != logits.dtype:
            logits[part] = own
    prediction, cross_entropy = zip(*found, strict=True)
    return torch.cat(prediction), torch.cat(cross_entropy)


def tile_rows(entries: int, device: torch.device) -> int:
    return max(1, (CPU_TILE if device.type == "cpu" else GPU_TILE) // entries)


def wide(dtype: torch.dtype) -> torch.dtype:
    """Where losses are computed: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, shares: Tensor, objective: Objective
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        needed = ctx.needs_input_grad[:3]
        with torch.autocast(hidden.device.type, enabled=False):
            made = _Gradients(hidden, weight, bias, needed)
            head = LinearHead(weight, bias).detached(hidden.dtype)
            step = tile_rows(head.entries, hidden.device)
            buffer = hidden.new_empty(min(step, len(hidden)), head.entries)
            scores = shares.new_zeros(shares.shape, dtype=wide(hidden.dtype))
            for start in range(0, len(hidden), step):
                rows = slice(start, start + step)
                logits = head.logits(hidden[rows], buffer)
                found = objective.slopes(rows, logits, shares[:, rows] if any(needed) else None)
                scores[0, rows], scores[1, rows] = found
                made.add(rows, logits, hidden[rows], head.weight)
            ctx.made = made.finished()
            prediction, cross_entropy = (scores.double() * shares.double()).sum(dim=1).to(scores.dtype)
            ctx.mark_non_differentiable(prediction, cross_entropy, scores)
            return objective.total(prediction, cross_entropy), prediction, cross_entropy, scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.made is None:
            raise RuntimeError("the fused head's gradients are spent by one backward; call the loss again")
        # Handed on without another reference, so that autograd takes the head's gradient over instead of copying it.
        made, ctx.made = ctx.made, None
        if gradient != 1:
            made = [None if one is None else one.mul_(gradient.to(one.dtype)) for one in made]
        return (*made, None, None)


class _Gradients:
    """Gradients of hidden states, weight and bias, as tiles come in; None for what needs none."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, needed: tuple[bool, ...]) -> None:
        self._dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        self._hidden = torch.zeros_like(hidden) if needed[0] else None
        self._weight = torch.empty_like(weight, dtype=wide(weight.dtype)) if needed[1] else None
        self._bias = torch.zeros_like(bias, dtype=wide(bias.dtype)) if bias is not None and needed[2] else None
        self._begun = 0  # whether the weight's gradient holds anything yet

    def add(self, rows: slice, slopes: Tensor, hidden: Tensor, weight: Tensor) -> None:
        if self._hidden is not None:
            torch.mm(slopes, weight, out=self._hidden[rows])
        if self._weight is not None:
            product = (slopes.t(), hidden)
            if self._weight.dtype == slopes.dtype:
                self._weight.addmm_(*product, beta=self._begun)
            else:  # a sum of many tiles in half precision would lose its last ones
                found = torch.mm(*product)
                self._weight.add_(found) if self._begun else self._weight.copy_(found)
            self._begun = 1
        if self._bias is not None:
            self._bias += slopes.sum(dim=0, dtype=self._bias.dtype)

    def finished(self) -> tuple[Tensor | None, ...]:
        if self._weight is not None and not self._begun:
            self._weight.zero_()  # there was no token
        made = (self._hidden, self._weight, self._bias)
        return tuple(None if one is None else one.to(dtype) for one, dtype in zip(made, self._dtypes, strict=True))
