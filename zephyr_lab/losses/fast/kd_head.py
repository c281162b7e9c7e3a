"""KD's prediction loss and cross-entropy from the hidden states of both models, in one pass over their output heads.

Kothari et al. 2024, arXiv 2406.19112, equation (2), and the code's mixture with cross-entropy. Exactly `losses.kd` on
whole logits (tested), without any: a tile of rows of logits is computed, valued, replaced by its gradient and added to
the gradients of hidden states and head. That takes as many matrix products as autograd does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr_lab.losses.shapes import Scalar

Hidden = Float[Tensor, "token hidden"]
TeacherHidden = Float[Tensor, "teacher_token teacher_hidden"]
TokenShares = Float[Tensor, " token"]
NextIds = Int[Tensor, " token"]
Divergence = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

CPU_TILE, CPU_BLOCK = 2**21, 2**18  # logits: what the products work on, what elementwise steps keep in a core's cache
GPU_TILE = 2**26
CPU_ENTRIES = 2048  # of the head that a product reads at once: with few rows a fifth faster than all


@dataclass(frozen=True, slots=True)
class LinearHead:
    """logits = hidden @ weight.T + bias; weight (entry, hidden), bias (entry,) or None.

    `models.logits.plain_head` finds out whether a model's head is no more than this.
    """

    weight: Float[Tensor, "entry hidden"]
    bias: Float[Tensor, " entry"] | None = None

    @property
    def entries(self) -> int:
        return len(self.weight)

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        """The logits of some rows, written into the first rows of `out`."""
        out = out[: len(hidden)]
        step = CPU_ENTRIES if hidden.device.type == "cpu" else self.entries
        for start in range(0, self.entries, step):
            part = slice(start, start + step)
            torch.mm(hidden, self.weight[part].t(), out=out[:, part])
        return out if self.bias is None else out.add_(self.bias)

    def first(self, entries: int | None) -> "LinearHead":
        """The head of the first entries alone; None: of all."""
        if entries is None:
            return self
        return LinearHead(self.weight[:entries], None if self.bias is None else self.bias[:entries])

    def detached(self, dtype: torch.dtype) -> "LinearHead":
        bias = None if self.bias is None else self.bias.detach().to(dtype)
        return LinearHead(self.weight.detach().to(dtype), bias)


class HeadLosses(NamedTuple):
    """loss carries the gradient; prediction and cross_entropy are the weighted sums that it is mixed from, as plain
    numbers; scores are what they are sums of: prediction loss and cross-entropy of each token, (2, token)."""

    loss: Scalar
    prediction: Scalar
    cross_entropy: Scalar
    scores: Tensor


def forward_kl(own: Tensor, theirs: Tensor, q: Tensor, log_sum_q: Tensor) -> tuple[Tensor, Tensor]:
    """KL(teacher, student) of each row, eq. (2), and its slope by the student's logits, q - p.

    own, theirs: logits over temperature of both models, (row, entry); q, log_sum_q: the student's `softmax`. theirs is
    overwritten.
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


def softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and the log of their denominator, from one exponential an entry."""
    probabilities = logits.softmax(dim=-1)
    # The likeliest entry has at least 1 / entries: log p = logit - lse is safe there.
    return probabilities, logits.amax(dim=-1) - probabilities.amax(dim=-1).log()


def mean_of_tokens(counted: Tensor) -> Tensor:
    """Shares of the mean over all counted positions of a batch, for `hidden[counted]`; (token,)."""
    count = int(counted.sum())
    return torch.full((count,), 1 / max(count, 1), dtype=torch.float64, device=counted.device)


def mean_of_sequences(counted: Tensor) -> Tensor:
    """Shares of the mean over rows of each row's mean (eq. 2 as printed), for `hidden[counted]`; (token,)."""
    lengths = counted.sum(dim=1)
    rows = (lengths > 0).sum().clamp(min=1)
    return (1 / (rows * lengths.clamp(min=1)).double())[:, None].expand(counted.shape)[counted]


def kd_head_losses(
    hidden: Hidden, head: LinearHead, *, teacher_hidden: TeacherHidden, teacher_head: LinearHead,
    next_ids: NextIds | None, shares: TokenShares, ce_shares: TokenShares | None = None, prediction_weight: float,
    ce_weight: float, temperature: float, divergence: Divergence = forward_kl,
) -> HeadLosses:  # fmt: skip
    """prediction_weight * KL(teacher, student) + ce_weight * cross-entropy in nats, each summed with its shares.

    Rows are the tokens that count, from anywhere in a batch: `hidden[counted]`, its next_ids and its shares of the mean
    (`mean_of_tokens`, `mean_of_sequences`). ce_shares: the shares in the cross-entropy, where they differ; a token of
    share 0 needs any id within the vocabulary. The temperature divides both models' logits in the divergence alone;
    kd-dae's factor temperature^2 belongs into prediction_weight. next_ids None: no cross-entropy (it is 0). A loss of
    weight 0 is reported and costs no gradient. divergence: `forward_kl` or `reverse_kl`. The two models may differ in
    hidden size. No gradient reaches the teacher; a second backward raises RuntimeError.

    Raises ValueError where sizes, tokens or vocabularies differ, for float16, a temperature that is not positive, an id
    outside the vocabulary, and ce_weight without next_ids.
    """
    _require(hidden, head, teacher_hidden, teacher_head, next_ids, ce_weight, temperature)
    if not prediction_weight and not ce_weight:
        hidden, head = hidden.detach(), head.detached(head.weight.dtype)
    objective = _Objective(
        teacher_hidden.detach(), teacher_head.detached(teacher_hidden.dtype), next_ids, prediction_weight, ce_weight,
        temperature, divergence,
    )  # fmt: skip
    both = torch.stack([shares, shares if ce_shares is None else ce_shares.to(shares.dtype)])
    refuse_half(hidden)
    if hidden.shape[1] != head.weight.shape[1]:
        raise ValueError(f"hidden has {hidden.shape[1]} features, the head takes {head.weight.shape[1]}")
    if both.requires_grad:
        raise ValueError("shares must be plain numbers: no gradient is made for them; detach() them")
    return HeadLosses(*_Fused.apply(hidden, head.weight, head.bias, both, objective))


def refuse_half(tensor: Tensor) -> None:
    """Raises ValueError for float16."""
    if tensor.dtype == torch.float16:
        raise ValueError(
            "float16 gradients need a scaled loss, and these are made before it is scaled; use bfloat16, or the plain "
            "forms of zephyr_lab.losses"
        )


def wide(dtype: torch.dtype) -> torch.dtype:
    """Where losses are computed: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(slots=True)
class _Objective:
    """What a tile of the student's logits is worth; the teacher's tile is computed beside it."""

    teacher_hidden: Tensor
    teacher_head: LinearHead
    next_ids: Tensor | None
    prediction_weight: float
    ce_weight: float
    temperature: float
    divergence: Divergence
    buffer: Tensor | None = field(default=None, init=False)

    def slopes(self, rows: slice, logits: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor]:
        """Prediction loss and cross-entropy of each row; `logits` become the gradient of `total` of their sums.

        shares: of the rows in either sum, (2, row); None: no gradient is wanted, and logits are overwritten. On a CPU
        as many rows are worked on at a time as a core's cache holds.
        """
        if self.buffer is None:
            self.buffer = self.teacher_hidden.new_empty(logits.shape)
        teacher = self.teacher_head.logits(self.teacher_hidden[rows], self.buffer)
        ids = None if self.next_ids is None else self.next_ids[rows]
        count, entries = logits.shape
        step = max(1, CPU_BLOCK // entries) if logits.device.type == "cpu" else count
        scores = []
        for start in range(0, count, step):
            part = slice(start, min(start + step, count))
            own = logits[part].to(wide(logits.dtype))
            theirs, weights = teacher[part].to(own.dtype), None if shares is None else shares[:, part].to(own.dtype)
            scores.append(self._block(own, theirs, None if ids is None else ids[part, None], weights))
            if own.dtype != logits.dtype:
                logits[part] = own
        prediction, cross_entropy = zip(*scores, strict=True)
        return torch.cat(prediction), torch.cat(cross_entropy)

    def total(self, prediction: Tensor, cross_entropy: Tensor) -> Tensor:
        """The two sums by their weights; one of weight 0 drops out altogether, be it infinite or NaN."""
        parts = ((self.prediction_weight, prediction), (self.ce_weight, cross_entropy))
        return sum((weight * loss for weight, loss in parts if weight), torch.zeros_like(prediction))

    def _block(self, own: Tensor, theirs: Tensor, ids: Tensor | None, shares: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values of a block's rows, in float32 at least; `own` becomes the slope, `theirs` is overwritten."""
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
            else:  # 0 times a NaN slope would be NaN
                own.zero_()
            if ids is not None and self.ce_weight:
                entropy_shares = (self.ce_weight * shares[1])[:, None]
                own.addcmul_(plain, entropy_shares).scatter_add_(1, ids, -entropy_shares)
        return prediction, cross_entropy


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, shares: Tensor, objective: _Objective
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        needed = ctx.needs_input_grad[:3]
        with torch.autocast(hidden.device.type, enabled=False):
            gradients = _Gradients(hidden, weight, bias, needed)
            head = LinearHead(weight, bias).detached(hidden.dtype)
            step = max(1, (CPU_TILE if hidden.device.type == "cpu" else GPU_TILE) // head.entries)
            buffer = hidden.new_empty(min(step, len(hidden)), head.entries)
            scores = shares.new_zeros(shares.shape, dtype=wide(hidden.dtype))
            for start in range(0, len(hidden), step):
                rows = slice(start, start + step)
                logits = head.logits(hidden[rows], buffer)
                scores[0, rows], scores[1, rows] = objective.slopes(
                    rows, logits, shares[:, rows] if any(needed) else None
                )
                gradients.add(rows, logits, hidden[rows], head.weight)
            ctx.gradients = gradients.finished()
            prediction, cross_entropy = (scores.double() * shares.double()).sum(dim=1).to(scores.dtype)
            ctx.mark_non_differentiable(prediction, cross_entropy, scores)
            return objective.total(prediction, cross_entropy), prediction, cross_entropy, scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the fused head's gradients are spent by one backward; call the loss again")
        # Passed on without another reference, so that autograd takes the head's gradient over instead of copying it.
        gradients, ctx.gradients = ctx.gradients, None
        if gradient != 1:
            gradients = [None if one is None else one.mul_(gradient.to(one.dtype)) for one in gradients]
        return (*gradients, None, None)


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
            if self._weight.dtype == slopes.dtype:
                self._weight.addmm_(slopes.t(), hidden, beta=self._begun)
            else:  # a sum of many tiles in half precision would lose its last ones
                product = torch.mm(slopes.t(), hidden)
                self._weight.add_(product) if self._begun else self._weight.copy_(product)
            self._begun = 1
        if self._bias is not None:
            self._bias += slopes.sum(dim=0, dtype=self._bias.dtype)

    def finished(self) -> tuple[Tensor | None, ...]:
        if self._weight is not None and not self._begun:
            self._weight.zero_()  # there was no token
        sums = (self._hidden, self._weight, self._bias)
        return tuple(None if one is None else one.to(dtype) for one, dtype in zip(sums, self._dtypes, strict=True))


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
    if next_ids is None and ce_weight:
        raise ValueError(f"ce_weight is {ce_weight}, and there are no next_ids to take the cross-entropy of")
    if next_ids is not None and len(next_ids) and not 0 <= int(next_ids.min()) <= int(next_ids.max()) < head.entries:
        raise ValueError(
            f"next_ids must be from 0 to {head.entries - 1}, got {int(next_ids.min())} to {int(next_ids.max())}; "
            "select the tokens that count first, instead of marking the others with -100"
        )
