"""The prediction loss from a sparse teacher: its likeliest entries of each token and one bucket for all the others.

The divergence over these entries + 1 outcomes is a lower bound of the whole one; inside the bucket the student keeps
its own shape. With the same bytes it is several times closer than the renormalised top entries, which teach the student
that nothing else exists (arXiv 2503.16870 on that bias).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zephyr_lab.losses.fast import fused_head
from zephyr_lab.losses.fast.fused_head import HeadLosses, Hidden, LinearHead, NextIds, TokenShares, fused
from zephyr_lab.losses.fast.kd_head import require_next_ids

DEFAULT_ENTRIES = 64


@dataclass(frozen=True, slots=True)
class SparseTeacher:
    """ids of the kept entries of each token and their log-probabilities, (token, kept) each; unlike within a row."""

    ids: Int[Tensor, "token kept"]
    log_probs: Float[Tensor, "token kept"]


@torch.no_grad()
def kept_entries(
    hidden: Hidden, head: LinearHead, *, temperature: float, entries: int = DEFAULT_ENTRIES
) -> SparseTeacher:
    """The `entries` likeliest entries of each token, from the teacher's hidden states.

    The temperature is that of the loss to come: it shapes what the bucket holds. Raises ValueError unless 1 <= entries
    < vocabulary.
    """
    if not 1 <= entries < head.entries:
        raise ValueError(f"entries must be from 1 to {head.entries - 1}, got {entries}; all of them: kd_head_losses")
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature} (the paper has 1)")
    head = head.detached(hidden.dtype)
    step = fused_head.tile_rows(head.entries, hidden.device)
    buffer = hidden.new_empty(min(step, len(hidden)), head.entries)
    ids, log_probs = [], []
    for start in range(0, len(hidden), step):
        logits = head.logits(hidden[start : start + step], buffer).to(fused_head.wide(hidden.dtype)) / temperature
        top = logits.topk(entries, dim=-1)
        ids.append(top.indices)
        log_probs.append(top.values - logits.logsumexp(dim=-1, keepdim=True))
    return SparseTeacher(torch.cat(ids), torch.cat(log_probs))


def sparse_kd_head_losses(
    hidden: Hidden,
    head: LinearHead,
    *,
    teacher: SparseTeacher,
    next_ids: NextIds | None,
    shares: TokenShares,
    prediction_weight: float,
    ce_weight: float,
    temperature: float,
) -> HeadLosses:
    """As `kd_head.kd_head_losses`, the divergence over the kept entries and the bucket of the others.

    Its value never exceeds the whole divergence, and is equal to it where the bucket has the student's shape.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature} (the paper has 1)")
    if len(hidden) != len(teacher.ids):
        raise ValueError(f"tokens differ: student {len(hidden)}, teacher {len(teacher.ids)}")
    if len(teacher.ids) and int(teacher.ids.max()) >= head.entries:
        raise ValueError(f"the teacher kept entry {int(teacher.ids.max())}, the student's head has {head.entries}")
    require_next_ids(next_ids, head, ce_weight)
    return fused(hidden, head, shares, _Bucketed(teacher, next_ids, prediction_weight, ce_weight, temperature))


@dataclass(slots=True)
class _Bucketed:
    """Objective of the divergence over kept entries and bucket."""

    teacher: SparseTeacher
    next_ids: Tensor | None
    prediction_weight: float
    ce_weight: float
    temperature: float

    def slopes(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        kept, log_p = self.teacher.ids[rows].long(), self.teacher.log_probs[rows]
        ids = None if self.next_ids is None else self.next_ids[rows, None]

        def block(part: slice, own: Tensor) -> tuple[Tensor, Tensor]:
            return self._block(own, kept[part], log_p[part].to(own.dtype), None if ids is None else ids[part])

        return fused_head.in_blocks(logits, block)

    def total(self, prediction: Tensor, cross_entropy: Tensor) -> Tensor:
        return self.prediction_weight * prediction + self.ce_weight * cross_entropy

    def _block(self, own: Tensor, kept: Tensor, log_p: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values of a block's rows; `own` becomes the slope."""
        cross_entropy, ce_slope = own.new_zeros(len(own)), None
        if ids is not None:
            log_q = own.log_softmax(dim=-1)
            cross_entropy = -log_q.gather(1, ids).squeeze(1)
            if self.ce_weight:
                ce_slope = log_q.exp_().mul_(self.ce_weight)
                ce_slope.scatter_add_(1, ids, own.new_full(ids.shape, -self.ce_weight))
        own /= self.temperature
        seen = own.gather(1, kept)
        own.scatter_(1, kept, float("-inf"))
        rest = own.logsumexp(dim=-1, keepdim=True)
        log_sum = torch.logaddexp(rest, seen.logsumexp(dim=-1, keepdim=True))
        log_q, log_q_rest = seen - log_sum, rest - log_sum
        p = log_p.exp()
        p_rest = (1 - p.sum(dim=-1, keepdim=True)).clamp(min=0)
        prediction = (p * (log_p - log_q)).sum(dim=-1, keepdim=True) + torch.xlogy(p_rest, p_rest) - p_rest * log_q_rest
        weight = self.prediction_weight / self.temperature
        # In the bucket: the student's shape there, times what its mass is too large by.
        own.sub_(rest).exp_().mul_(weight * (log_q_rest.exp() - p_rest))
        own.scatter_(1, kept, weight * (log_q.exp() - p))
        if ce_slope is not None:
            own += ce_slope
        return prediction.squeeze(1), cross_entropy
