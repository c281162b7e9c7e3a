"""A preference loss from hidden states with its gradient made at once: no logits beyond one tile, no second pass.

A loss that depends on the summed log-probabilities of its own pair alone fixes the pair's gradient as soon as its rows
are scored. So the gradient is made in the forward pass, from the tile that gave the log-probabilities: three matrix
products a row. The rows of a pair that is larger than a tile are scored twice: four.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.fast.head_tiles import (
    TILE_ENTRIES,
    Head,
    HeadBias,
    HeadHidden,
    HeadWeight,
    TargetNumbers,
    Targets,
    tiles,
)
from zephyr_lab.losses.fast.pair_packing import PairShape
from zephyr_lab.losses.log_probs import PairLogProbs

PolicyLoss = Callable[[PairLogProbs, slice], PairScores]


@dataclass(frozen=True, slots=True)
class HeadStatistics:
    """Of each target: the entropy of its distribution in nats, the mean logit over the vocabulary, and whether the
    target was the likeliest token."""

    entropy: TargetNumbers
    mean_logit: TargetNumbers
    likeliest: Bool[Tensor, " target"]


@dataclass(frozen=True, slots=True)
class HeadLoss:
    """A `loss` that carries the gradient; log-probabilities of the pairs and statistics, which carry none."""

    loss: Float[Tensor, ""]
    log_probs: PairLogProbs
    statistics: HeadStatistics


def mean_loss(
    hidden: HeadHidden,
    weight: HeadWeight,
    bias: HeadBias | None,
    targets: Targets,
    shapes: Sequence[PairShape],
    loss: PolicyLoss,
    *,
    tile_entries: int = TILE_ENTRIES,
) -> HeadLoss:
    """The mean over pairs of `loss`; the backward pass only scales a gradient that is made here, and runs once.

    `loss(log_probs, pairs)` gives the losses of a slice of the pairs from their summed log-probabilities (float64) and
    may depend on nothing else that carries a gradient. Rows in the order of `PackedPairs.targets`. Raises ValueError
    where the loss has no finite slope or is not one number a pair.
    """
    learning = torch.is_grad_enabled()
    value, chosen, rejected, entropy, likeliest = _MeanLoss.apply(
        hidden, weight, bias, targets, tuple(shapes), loss, tile_entries, learning
    )
    with torch.no_grad():  # h . mean of W's rows: no logits are needed for their mean
        mean_logit = (hidden.to(weight.dtype) @ weight.mean(dim=0)).to(entropy.dtype)
        if bias is not None:
            mean_logit += bias.mean()
    return HeadLoss(value, PairLogProbs(chosen, rejected), HeadStatistics(entropy, mean_logit, likeliest))


def pair_sums(rows: TargetNumbers, shapes: Sequence[PairShape]) -> PairLogProbs:
    """`rows`, in the order of `PackedPairs.targets`, summed over each response in float64."""
    counts = _responses(shapes, rows.device)
    sums = rows.new_zeros(len(counts), dtype=torch.float64)
    sums = sums.index_add(0, torch.arange(len(counts), device=rows.device).repeat_interleave(counts), rows.double())
    return PairLogProbs(sums[0::2], sums[1::2])


def slopes(loss: PolicyLoss, found: PairLogProbs, pairs: slice) -> tuple[Tensor, Tensor]:
    """`loss` of a slice of pairs, shape (pair,), and its derivatives by both log-probabilities, shape (pair, 2)."""
    with torch.enable_grad():
        sums = torch.stack([found.chosen, found.rejected], dim=1).detach().requires_grad_()
        losses = loss(PairLogProbs(*sums.unbind(dim=1)), pairs)
        if losses.shape != found.chosen.shape:
            raise ValueError(
                f"the loss gave shape {tuple(losses.shape)} for {len(found.chosen)} pairs; it must give one number a "
                "pair and leave the mean to its caller"
            )
        (by_sums,) = torch.autograd.grad(losses.sum(), sums)
    if not bool(torch.isfinite(by_sums).all()):
        raise ValueError(f"the loss has no finite slope at log-probabilities {sums.tolist()}")
    return losses.detach(), by_sums


def groups(shapes: Sequence[PairShape], rows: int) -> Iterator[tuple[slice, slice]]:
    """Consecutive pairs with at most `rows` targets together, or a single larger pair: (pairs, targets) of each."""
    first = start = stop = 0
    for place, shape in enumerate(shapes):
        if place > first and stop + shape.responses - start > rows:
            yield slice(first, place), slice(start, stop)
            first, start = place, stop
        stop += shape.responses
    yield slice(first, len(shapes)), slice(start, stop)


class _MeanLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        shapes: tuple[PairShape, ...],
        loss: PolicyLoss,
        tile_entries: int,
        learning: bool,
    ) -> tuple[Tensor, ...]:
        head = Head(hidden, weight, bias)
        if learning:
            head.prepare(ctx.needs_input_grad[:3])
        scored = _Scored(head, hidden, targets, len(weight), tile_entries)
        total, sums = 0.0, []
        for pairs, rows in groups(shapes, max(tile_entries // len(weight), 1)):
            found = pair_sums(scored.log_probs_of(rows), shapes[pairs])
            losses, by_sums = slopes(loss, found, pairs)
            total = total + losses.sum()
            sums.append(torch.stack([found.chosen, found.rejected]))
            if learning:
                counts = _responses(shapes[pairs], hidden.device)
                scored.descend(rows, (by_sums.flatten() / len(shapes)).repeat_interleave(counts))
        ctx.found = head.gradients() if learning else None
        chosen, rejected = torch.cat(sums, dim=1)
        outputs = (total / len(shapes)).to(head.wide), chosen, rejected, scored.entropy, scored.likeliest
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.found is None:
            raise RuntimeError("the gradient was made in the forward pass and is handed out once; run that pass again")
        found, ctx.found = ctx.found, None
        return *(None if part is None else part.mul_(scale.to(part.dtype)) for part in found), *([None] * 5)


class _Scored:
    """Rows of a head as they are scored; a tile that holds all rows asked for stays until they descend."""

    def __init__(self, head: Head, hidden: Tensor, targets: Tensor, entries: int, tile_entries: int) -> None:
        self._head, self._hidden, self._targets = head, hidden, targets
        self._sizes = entries, tile_entries
        self._kept: Tensor | None = None
        self._log_probs = torch.empty(len(targets), dtype=head.wide, device=hidden.device)
        self.entropy = torch.empty_like(self._log_probs)
        self.likeliest = torch.empty(len(targets), dtype=torch.bool, device=hidden.device)

    def log_probs_of(self, rows: slice) -> Tensor:
        for tile in tiles(rows, *self._sizes):
            self._kept = None  # before the next tile is made
            self._kept, self._log_probs[tile], self.likeliest[tile] = self._head.probabilities(
                self._hidden[tile], self._targets[tile]
            )
            if not self._head.learns:
                self.entropy[tile] = torch.special.entr(self._kept).sum(dim=-1)
        return self._log_probs[rows]

    def descend(self, rows: slice, weights: Tensor) -> None:
        parts = list(tiles(rows, *self._sizes))
        for tile in parts:
            if len(parts) > 1:
                self._kept = None
                self._kept, _, _ = self._head.probabilities(self._hidden[tile], self._targets[tile])
            of_tile = weights[tile.start - rows.start : tile.stop - rows.start]
            excess = self._head.descend(self._kept, self._targets[tile], of_tile, tile)
            # entropy = log-sum-exp - mean logit, and log-sum-exp = target's logit - its log-probability
            self.entropy[tile] = -self._log_probs[tile] - excess
        self._kept = None


def _responses(shapes: Sequence[PairShape], device: torch.device) -> Tensor:
    return torch.tensor([count for shape in shapes for count in (shape.chosen, shape.rejected)], device=device)
