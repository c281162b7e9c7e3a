"""One tile of an output head at a time: log-probabilities of target tokens, and the gradients of their weighted sum.

softmax(hidden W^T + b), and with the weights w of the targets' log-probabilities: d logits = w (onehot - p),
d hidden = d logits W, d W = d logits^T hidden. Rows are scored in float32 or wider, whatever the products run in.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE_ENTRIES = 1 << 23  # logits alive at once: 32 MiB in float32

Targets = Int[Tensor, " target"]
TargetNumbers = Float[Tensor, " target"]
HeadHidden = Float[Tensor, "target hidden"]
HeadWeight = Float[Tensor, "entry hidden"]
HeadBias = Float[Tensor, " entry"]


def target_log_probs(
    hidden: HeadHidden, weight: HeadWeight, bias: HeadBias | None, targets: Targets, *, tile_entries: int = TILE_ENTRIES
) -> TargetNumbers:
    """log softmax(hidden W^T + b)[target] of each row in nats; the backward pass makes the tiles again."""
    return _TargetLogProbs.apply(hidden, weight, bias, targets, tile_entries)


def tiles(rows: slice, entries: int, tile_entries: int) -> Iterator[slice]:
    """`rows` in parts whose logits are at most `tile_entries`; a part has one row at least."""
    step = max(tile_entries // entries, 1)
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))


class Head:
    """Weights in the type that products run in, and sums of gradients where these are asked for."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        device = hidden.device.type
        self._type = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        self.wide = torch.promote_types(self._type, torch.float32)
        self._device = device
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
            self._add(excess, hidden, by_hidden, weights, rows)
        return excess_logit

    def _add(self, excess: Tensor, hidden: Tensor, by_hidden: Tensor, weights: Tensor, rows: slice) -> None:
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

    def gradients(self) -> list[Tensor | None]:
        """Of hidden, weight and bias; None where not prepared for."""
        pairs = zip(self._sums, self._inputs, strict=True)
        return [None if found is None else found.to(given.dtype) for found, given in pairs]


class _TargetLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tile_entries: int
    ) -> Tensor:
        head = Head(hidden, weight, bias)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.tile_entries, ctx.device = tile_entries, hidden.device.type
        ctx.autocast = torch.is_autocast_enabled(ctx.device)
        found = torch.empty(len(targets), dtype=head.wide, device=hidden.device)
        for rows in tiles(slice(0, len(targets)), len(weight), tile_entries):
            _, found[rows], _ = head.probabilities(hidden[rows], targets[rows])
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_log_probs: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        with torch.autocast(ctx.device, enabled=ctx.autocast):
            head = Head(hidden, weight, bias)
        head.prepare(ctx.needs_input_grad[:3])
        for rows in tiles(slice(0, len(targets)), len(weight), ctx.tile_entries):
            spread, _, _ = head.probabilities(hidden[rows], targets[rows])
            head.descend(spread, targets[rows], by_log_probs[rows], rows)
        return *head.gradients(), None, None
