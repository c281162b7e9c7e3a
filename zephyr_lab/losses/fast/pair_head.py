"""A preference loss from hidden states with its gradient made at once: no logits beyond one tile, no second pass.

A loss that depends on the summed log-probabilities of its own pair alone fixes the pair's gradient as soon as its rows
are scored. So the gradient is made in the forward pass, from the tile that gave the log-probabilities: three matrix
products a row. The rows of a pair that is larger than a tile are scored twice: four.

Of softmax(hidden W^T + b), with weights w of the targets' log-probabilities: d logits = w (onehot - p),
d hidden = d logits W, d W = d logits^T hidden. Rows are scored in float32 or wider, whatever the products run in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.fast.pair_packing import PairShape, Targets
from zephyr_lab.losses.log_probs import PairLogProbs

TILE_ENTRIES = 1 << 23  # logits alive at once: 32 MiB in float32

TargetNumbers = Float[Tensor, " target"]
HeadHidden = Float[Tensor, "target hidden"]
HeadWeight = Float[Tensor, "entry hidden"]
HeadBias = Float[Tensor, " entry"]
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


def target_log_probs(
    hidden: HeadHidden, weight: HeadWeight, bias: HeadBias | None, targets: Targets, *, tile_entries: int = TILE_ENTRIES
) -> TargetNumbers:
    """log softmax(hidden W^T + b)[target] of each row in nats; the backward pass makes the tiles again."""
    return _TargetLogProbs.apply(hidden, weight, bias, targets, tile_entries)


def mean_loss(
    hidden: HeadHidden, weight: HeadWeight, bias: HeadBias | None, targets: Targets, shapes: Sequence[PairShape],
    loss: PolicyLoss, *, tile_entries: int = TILE_ENTRIES,
) -> HeadLoss:  # fmt: skip
    """The mean over pairs of `loss`; the backward pass only scales a gradient that is made here, and runs once.

    `loss(log_probs, pairs)` gives the losses of a slice of the pairs from their summed log-probabilities (float64) and
    may depend on nothing else that carries a gradient. Rows in the order of `PackedPairs.targets`. Raises ValueError
    where the loss has no finite slope or is not one number a pair.
    """
    value, chosen, rejected, entropy, likeliest = _MeanLoss.apply(
        hidden, weight, bias, targets, tuple(shapes), loss, tile_entries, torch.is_grad_enabled()
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


class _Head:
    """Weights in the type that products run in, and sums of gradients where these are asked for."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        self._device = hidden.device.type
        autocast = torch.is_autocast_enabled(self._device)
        self._type = torch.get_autocast_dtype(self._device) if autocast else hidden.dtype
        self.wide = torch.promote_types(self._type, torch.float32)
        self._inputs = hidden, weight, bias
        self._weight = weight.to(self._type)
        self._sums: list[Tensor | None] = [None, None, None]
        self.learns = False

    def prepare(self, needed: tuple[bool, ...]) -> None:
        """Make room for the gradients of hidden, weight and bias, as far as `needed`."""
        self.learns = True
        hidden, weight, bias = self._inputs
        if needed[0]:
            self._sums[0] = torch.empty_like(hidden)
        if needed[1]:
            self._sums[1] = torch.zeros_like(weight, dtype=self.wide)
        if bias is not None and needed[2]:
            self._sums[2] = torch.zeros_like(bias, dtype=self.wide)

    def probabilities(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """softmax of a tile's logits, log-probabilities of its targets, and which of these are the likeliest."""
        bias = self._inputs[2]
        with torch.autocast(self._device, enabled=False):
            logits = (hidden.to(self._type) @ self._weight.T).to(self.wide)
            if bias is not None:
                logits += bias
            largest = logits.amax(dim=-1)
            picked = logits.gather(1, targets[:, None]).squeeze(1)
            spread = torch.softmax(logits, dim=-1, out=logits)
            # The largest probability is 1 / sum exp(logit - largest): log-sum-exp without another exponential.
            log_probs = picked - largest + spread.amax(dim=-1).log()
        return spread, log_probs, picked >= largest

    def descend(self, spread: Tensor, targets: Tensor, weights: Tensor, rows: slice) -> Tensor:
        """Add the gradients of sum(weights * log-probability) over a tile; takes the storage of `spread`.

        Returns each row's mean logit under p less its target's logit.
        """
        hidden, bias = self._inputs[0][rows], self._inputs[2]
        weights = weights.to(self.wide)[:, None]
        with torch.autocast(self._device, enabled=False):
            # The weights go to the narrow factors: the tile is not passed over for them.
            excess = spread.scatter_add_(1, targets[:, None], -torch.ones_like(weights))
            by_hidden = (excess.to(self._type) @ self._weight).to(self.wide)
            excess_logit = (by_hidden * hidden).sum(dim=-1)
            if bias is not None:
                excess_logit += excess @ bias.to(self.wide)
            for_hidden, for_weight, for_bias = self._sums
            if for_weight is not None:
                weighted = hidden * -weights
                if self._type == self.wide:
                    for_weight.addmm_(excess.T, weighted)
                else:
                    for_weight += excess.to(self._type).T @ weighted.to(self._type)
            if for_bias is not None:
                for_bias -= excess.T @ weights.squeeze(1)
            if for_hidden is not None:
                for_hidden[rows] = by_hidden.mul_(-weights)
        return excess_logit

    def gradients(self) -> list[Tensor | None]:
        """Of hidden, weight and bias; None where not prepared for."""
        pairs = zip(self._sums, self._inputs, strict=True)
        return [None if total is None else total.to(tensor.dtype) for total, tensor in pairs]


class _TargetLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tile_entries: int
    ) -> Tensor:
        head = _Head(hidden, weight, bias)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.tile_entries, ctx.device = tile_entries, hidden.device.type
        ctx.autocast = torch.is_autocast_enabled(ctx.device)
        log_probs = torch.empty(len(targets), dtype=head.wide, device=hidden.device)
        for rows in _tiles(slice(0, len(targets)), len(weight), tile_entries):
            _, log_probs[rows], _ = head.probabilities(hidden[rows], targets[rows])
        return log_probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_log_probs: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        with torch.autocast(ctx.device, enabled=ctx.autocast):
            head = _Head(hidden, weight, bias)
        head.prepare(ctx.needs_input_grad[:3])
        for rows in _tiles(slice(0, len(targets)), len(weight), ctx.tile_entries):
            spread, _, _ = head.probabilities(hidden[rows], targets[rows])
            head.descend(spread, targets[rows], by_log_probs[rows], rows)
        return *head.gradients(), None, None


class _MeanLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, shapes: tuple[PairShape, ...],
        loss: PolicyLoss, tile_entries: int, learning: bool,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        head = _Head(hidden, weight, bias)
        if learning:
            head.prepare(ctx.needs_input_grad[:3])
        scored = _Scored(head, hidden, targets, len(weight), tile_entries)
        total, sums = 0.0, []
        for pairs, rows in _groups(shapes, max(tile_entries // len(weight), 1)):
            log_probs = pair_sums(scored.log_probs_of(rows), shapes[pairs])
            losses, by_sums = _slopes(loss, log_probs, pairs)
            total = total + losses.sum()
            sums.append(torch.stack([log_probs.chosen, log_probs.rejected]))
            if learning:
                counts = _responses(shapes[pairs], hidden.device)
                scored.descend(rows, (by_sums.flatten() / len(shapes)).repeat_interleave(counts))
        ctx.gradients = head.gradients() if learning else None
        chosen, rejected = torch.cat(sums, dim=1)
        outputs = (total / len(shapes)).to(head.wide), chosen, rejected, scored.entropy, scored.likeliest
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradient was made in the forward pass and is used up by one backward; run it again")
        gradients, ctx.gradients = ctx.gradients, None
        return *(None if one is None else one.mul_(scale.to(one.dtype)) for one in gradients), *([None] * 5)


class _Scored:
    """Rows of a head as they are scored; a tile that holds all rows asked for is kept until they descend."""

    def __init__(self, head: _Head, hidden: Tensor, targets: Tensor, entries: int, tile_entries: int) -> None:
        self._head, self._hidden, self._targets = head, hidden, targets
        self._sizes = entries, tile_entries
        self._kept: Tensor | None = None
        self._log_probs = torch.empty(len(targets), dtype=head.wide, device=hidden.device)
        self.entropy = torch.empty_like(self._log_probs)
        self.likeliest = torch.empty(len(targets), dtype=torch.bool, device=hidden.device)

    def log_probs_of(self, rows: slice) -> Tensor:
        for tile in _tiles(rows, *self._sizes):
            self._kept = None  # before the next tile is made
            self._kept, self._log_probs[tile], self.likeliest[tile] = self._head.probabilities(
                self._hidden[tile], self._targets[tile]
            )
            if not self._head.learns:
                self.entropy[tile] = torch.special.entr(self._kept).sum(dim=-1)
        return self._log_probs[rows]

    def descend(self, rows: slice, weights: Tensor) -> None:
        parts = list(_tiles(rows, *self._sizes))
        for tile in parts:
            if len(parts) > 1:
                self._kept = None
                self._kept, _, _ = self._head.probabilities(self._hidden[tile], self._targets[tile])
            of_tile = weights[tile.start - rows.start : tile.stop - rows.start]
            excess = self._head.descend(self._kept, self._targets[tile], of_tile, tile)
            # entropy = log-sum-exp - mean logit, and log-sum-exp = target's logit - its log-probability
            self.entropy[tile] = -self._log_probs[tile] - excess
        self._kept = None


def _slopes(loss: PolicyLoss, log_probs: PairLogProbs, pairs: slice) -> tuple[Tensor, Tensor]:
    """`loss` of a slice of pairs, shape (pair,), and its derivatives by both log-probabilities, shape (pair, 2)."""
    with torch.enable_grad():
        sums = torch.stack([log_probs.chosen, log_probs.rejected], dim=1).detach().requires_grad_()
        losses = loss(PairLogProbs(*sums.unbind(dim=1)), pairs)
        if losses.shape != log_probs.chosen.shape:
            raise ValueError(
                f"the loss gave shape {tuple(losses.shape)} for {len(sums)} pairs; it must give one number a pair and "
                "leave the mean to its caller"
            )
        (by_sums,) = torch.autograd.grad(losses.sum(), sums)
    if not bool(torch.isfinite(by_sums).all()):
        raise ValueError(f"the loss has no finite slope at log-probabilities {sums.tolist()}")
    return losses.detach(), by_sums


def _groups(shapes: Sequence[PairShape], rows: int) -> Iterator[tuple[slice, slice]]:
    """Consecutive pairs with at most `rows` targets together, or a single larger pair: (pairs, targets) of each."""
    first = start = stop = 0
    for index, shape in enumerate(shapes):
        if index > first and stop + shape.responses - start > rows:
            yield slice(first, index), slice(start, stop)
            first, start = index, stop
        stop += shape.responses
    yield slice(first, len(shapes)), slice(start, stop)


def _tiles(rows: slice, entries: int, tile_entries: int) -> Iterator[slice]:
    """`rows` in parts whose logits are at most `tile_entries`; a part has one row at least."""
    step = max(tile_entries // entries, 1)
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))


def _responses(shapes: Sequence[PairShape], device: torch.device) -> Tensor:
    return torch.tensor([count for shape in shapes for count in (shape.chosen, shape.rejected)], device=device)
