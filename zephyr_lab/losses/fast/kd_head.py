"""KD's prediction loss and cross-entropy from the hidden states of both models, one pass over their heads.

Kothari et al. 2024, arXiv 2406.19112, equation (2), and the code's mixture with cross-entropy. Exactly `losses.kd` on
whole logits (tested), without any: of teacher and student a tile of logits exists at a time.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from zephyr_lab.losses.fast import fused_head
from zephyr_lab.losses.fast.fused_head import (
    HeadLosses,
    Hidden,
    LinearHead,
    NextIds,
    TeacherHidden,
    TokenShares,
    fused,
)


def kd_head_losses(
    hidden: Hidden,
    head: LinearHead,
    *,
    teacher_hidden: TeacherHidden,
    teacher_head: LinearHead,
    next_ids: NextIds | None,
    shares: TokenShares,
    prediction_weight: float,
    ce_weight: float,
    temperature: float,
) -> HeadLosses:
    """prediction_weight * KL(teacher, student) + ce_weight * cross-entropy in nats, each summed with `shares`.

    Rows are tokens that count, from any places of a batch: `hidden[counted]`, its next_ids and its shares of the mean
    (`fused_head.mean_of_tokens`, `mean_of_sequences`). The temperature divides both models' logits in the divergence
    alone; kd-dae's factor temperature^2 belongs into prediction_weight. next_ids None: no cross-entropy (it is 0).
    The two models may differ in hidden size. No gradient reaches the teacher.

    Raises ValueError where sizes, tokens or vocabularies differ, for a temperature that is not positive, an id outside
    the vocabulary, and ce_weight without next_ids.
    """
    _require(hidden, head, teacher_hidden, teacher_head, next_ids, shares, ce_weight, temperature)
    objective = _Divergence(
        teacher_hidden.detach(), teacher_head.detached(teacher_hidden.dtype), next_ids, prediction_weight, ce_weight,
        temperature,
    )  # fmt: skip
    return fused(hidden, head, shares, objective)


@dataclass(slots=True)
class _Divergence:
    """Objective of the exact divergence; the teacher's tile is computed beside the student's."""

    teacher_hidden: Tensor
    teacher_head: LinearHead
    next_ids: Tensor | None
    prediction_weight: float
    ce_weight: float
    temperature: float
    buffer: Tensor | None = field(default=None, init=False)

    def slopes(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        if self.buffer is None:
            self.buffer = self.teacher_hidden.new_empty(logits.shape)
        teacher = self.teacher_head.logits(self.teacher_hidden[rows], self.buffer)
        ids = None if self.next_ids is None else self.next_ids[rows]

        def block(part: slice, own: Tensor) -> tuple[Tensor, Tensor]:
            theirs = teacher[part].to(own.dtype)
            return self._block(own, theirs, None if ids is None else ids[part, None])

        return fused_head.in_blocks(logits, block)

    def total(self, prediction: Tensor, cross_entropy: Tensor) -> Tensor:
        return self.prediction_weight * prediction + self.ce_weight * cross_entropy

    def _block(self, own: Tensor, theirs: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values of a block's rows; `own` becomes the slope, `theirs` is used up."""
        warm = own if self.temperature == 1 else own / self.temperature
        if self.temperature != 1:
            theirs /= self.temperature
        p, log_sum_p = softmax(theirs)
        q, log_sum_q = softmax(warm)
        # sum p (t - s) - lse t + lse s: no logarithm of a probability, which may be 0
        prediction = theirs.sub_(warm).mul_(p).sum(dim=-1) - log_sum_p + log_sum_q
        plain, log_sum = (q, log_sum_q) if self.temperature == 1 or ids is None else softmax(own)
        cross_entropy = torch.zeros_like(prediction) if ids is None else log_sum - own.gather(1, ids).squeeze(1)
        weight = self.prediction_weight / self.temperature
        if plain is q:
            torch.mul(q, weight + self.ce_weight, out=own).sub_(p, alpha=weight)
        else:
            torch.mul(q.sub_(p), weight, out=own).add_(plain, alpha=self.ce_weight)
        if ids is not None and self.ce_weight:
            own.scatter_add_(1, ids, own.new_full(ids.shape, -self.ce_weight))
        return prediction, cross_entropy


def softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and the log of their denominator, from one exponential an entry."""
    probabilities = logits.softmax(dim=-1)
    # The likeliest entry has at least 1 / entries: log p = logit - lse is safe there.
    return probabilities, logits.amax(dim=-1) - probabilities.amax(dim=-1).log()


def _require(
    hidden: Tensor, head: LinearHead, teacher_hidden: Tensor, teacher_head: LinearHead, next_ids: Tensor | None,
    shares: Tensor, ce_weight: float, temperature: float,
) -> None:  # fmt: skip
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature} (the paper has 1)")
    if head.entries != teacher_head.entries:
        raise ValueError(f"vocabularies differ: student {head.entries} entries, teacher {teacher_head.entries}")
    if teacher_hidden.shape[1] != teacher_head.weight.shape[1]:
        raise ValueError(
            f"teacher_hidden has {teacher_hidden.shape[1]} features, its head takes {teacher_head.weight.shape[1]}"
        )
    if len(hidden) != len(teacher_hidden):
        raise ValueError(f"tokens differ: student {len(hidden)}, teacher {len(teacher_hidden)}")
    require_next_ids(next_ids, head, ce_weight)


def require_next_ids(next_ids: Tensor | None, head: LinearHead, ce_weight: float) -> None:
    """Raises ValueError for an id outside the vocabulary, and for ce_weight without ids."""
    if next_ids is None:
        if ce_weight:
            raise ValueError(f"ce_weight is {ce_weight}, and there are no next_ids to take the cross-entropy of")
    elif len(next_ids) and not (int(next_ids.min()) >= 0 and int(next_ids.max()) < head.entries):
        raise ValueError(
            f"next_ids must be from 0 to {head.entries - 1}, got {int(next_ids.min())} to {int(next_ids.max())}; "
            "select the tokens that count first, instead of marking the others with -100"
        )
