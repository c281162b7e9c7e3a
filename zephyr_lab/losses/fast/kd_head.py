"""KD's prediction loss and cross-entropy from the hidden states of both models, one pass over their heads.

Kothari et al. 2024, arXiv 2406.19112, equation (2), and the code's mixture with cross-entropy. Exactly `losses.kd` on
whole logits (tested), without any: of teacher and student a tile of logits exists at a time.
"""

from collections.abc import Callable
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

Divergence = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def forward_kl(own: Tensor, theirs: Tensor, q: Tensor, log_sum_q: Tensor) -> tuple[Tensor, Tensor]:
    """KL(teacher, student) of each row, eq. (2), and its slope by the student's logits, q - p.

    own, theirs: logits over temperature of both models, (row, entry); q, log_sum_q: the student's `softmax`. theirs is
    used up.
    """
    p, log_sum_p = softmax(theirs)
    # sum p (t - s) - lse t + lse s: no logarithm of a probability, which may be 0
    values = theirs.sub_(own).mul_(p).sum(dim=-1) - log_sum_p + log_sum_q
    return values, torch.sub(q, p, out=p)


def reverse_kl(own: Tensor, theirs: Tensor, q: Tensor, log_sum_q: Tensor) -> tuple[Tensor, Tensor]:
    """KL(student, teacher) of each row and its slope, q (log q / p - KL); as `forward_kl`."""
    log_sum_p = theirs.logsumexp(dim=-1)
    ratio = torch.sub(own, theirs, out=theirs)
    mean = torch.linalg.vecdot(q, ratio)
    return mean + log_sum_p - log_sum_q, ratio.sub_(mean[:, None]).mul_(q)


def kd_head_losses(
    hidden: Hidden,
    head: LinearHead,
    *,
    teacher_hidden: TeacherHidden,
    teacher_head: LinearHead,
    next_ids: NextIds | None,
    shares: TokenShares,
    ce_shares: TokenShares | None = None,
    prediction_weight: float,
    ce_weight: float,
    temperature: float,
    divergence: Divergence = forward_kl,
) -> HeadLosses:
    """prediction_weight * KL(teacher, student) + ce_weight * cross-entropy in nats, each summed with its shares.

    Rows are tokens that count, from any places of a batch: `hidden[counted]`, its next_ids and its shares of the mean
    (`fused_head.mean_of_tokens`, `mean_of_sequences`). ce_shares: those in the cross-entropy, where they are others; a
    token of share 0 needs any id within the vocabulary. The temperature divides both models' logits in the divergence
    alone; kd-dae's factor temperature^2 belongs into prediction_weight. next_ids None: no cross-entropy (it is 0). A
    loss of weight 0 is told and costs no gradient. divergence: `forward_kl` or `reverse_kl`. The two models may differ
    in hidden size. No gradient reaches the teacher.

    Raises ValueError where sizes, tokens or vocabularies differ, for a temperature that is not positive, an id outside
    the vocabulary, and ce_weight without next_ids.
    """
    _require(hidden, head, teacher_hidden, teacher_head, next_ids, ce_weight, temperature)
    if not prediction_weight and not ce_weight:
        hidden, head = hidden.detach(), head.detached(head.weight.dtype)
    objective = _Distilled(
        teacher_hidden.detach(), teacher_head.detached(teacher_hidden.dtype), next_ids, prediction_weight, ce_weight,
        temperature, divergence,
    )  # fmt: skip
    both = torch.stack([shares, shares if ce_shares is None else ce_shares.to(shares.dtype)])
    return fused(hidden, head, both, objective)


@dataclass(slots=True)
class _Distilled:
    """Objective of the exact divergence; the teacher's tile is computed beside the student's."""

    teacher_hidden: Tensor
    teacher_head: LinearHead
    next_ids: Tensor | None
    prediction_weight: float
    ce_weight: float
    temperature: float
    divergence: Divergence
    buffer: Tensor | None = field(default=None, init=False)

    def slopes(self, rows: slice, logits: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.buffer is None:
            self.buffer = self.teacher_hidden.new_empty(logits.shape)
        teacher = self.teacher_head.logits(self.teacher_hidden[rows], self.buffer)
        ids = None if self.next_ids is None else self.next_ids[rows]

        def block(part: slice, own: Tensor) -> tuple[Tensor, Tensor]:
            theirs, weights = teacher[part].to(own.dtype), None if shares is None else shares[:, part].to(own.dtype)
            return self._block(own, theirs, None if ids is None else ids[part, None], weights)

        return fused_head.in_blocks(logits, block)

    def total(self, prediction: Tensor, cross_entropy: Tensor) -> Tensor:
        return weighted(self.prediction_weight, prediction, self.ce_weight, cross_entropy)

    def _block(self, own: Tensor, theirs: Tensor, ids: Tensor | None, shares: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values of a block's rows; `own` becomes the slope, `theirs` is used up."""
        warm = own if self.temperature == 1 else own / self.temperature
        if self.temperature != 1:
            theirs /= self.temperature
        q, log_sum_q = softmax(warm)
        prediction, slope = self.divergence(warm, theirs, q, log_sum_q)
        plain, log_sum = (q, log_sum_q) if self.temperature == 1 or ids is None else softmax(own)
        cross_entropy = torch.zeros_like(prediction) if ids is None else log_sum - own.gather(1, ids).squeeze(1)
        if shares is not None:
            if self.prediction_weight:
                torch.mul(slope, (self.prediction_weight / self.temperature * shares[0])[:, None], out=own)
            else:  # 0 times a slope that is no number would be none
                own.zero_()
            if ids is not None and self.ce_weight:
                entropy_shares = (self.ce_weight * shares[1])[:, None]
                own.addcmul_(plain, entropy_shares).scatter_add_(1, ids, -entropy_shares)
        return prediction, cross_entropy


def weighted(prediction_weight: float, prediction: Tensor, ce_weight: float, cross_entropy: Tensor) -> Tensor:
    """The two sums by their weights; one of weight 0 drops out altogether, be it infinite or no number."""
    parts = ((prediction_weight, prediction), (ce_weight, cross_entropy))
    return sum((weight * loss for weight, loss in parts if weight), torch.zeros_like(prediction))


def softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and the log of their denominator, from one exponential an entry."""
    probabilities = logits.softmax(dim=-1)
    # The likeliest entry has at least 1 / entries: log p = logit - lse is safe there.
    return probabilities, logits.amax(dim=-1) - probabilities.amax(dim=-1).log()


def _require(
    hidden: Tensor, head: LinearHead, teacher_hidden: Tensor, teacher_head: LinearHead, next_ids: Tensor | None,
    ce_weight: float, temperature: float,
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
