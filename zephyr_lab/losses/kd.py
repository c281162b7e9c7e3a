"""Distillation of a teacher's next-token distribution: the prediction loss, its mask and its means.

Kothari et al. 2024, arXiv 2406.19112, equations (2) and (5); code flipkart-incubator/kd-dae. Logits come in, losses go
out; no model, file or device is touched. The teacher's logits are taken as numbers: no gradient reaches it. Logits of
less than float32 are read as float32.
"""

import torch
from torch import Tensor

from zephyr_lab.core.shapes import Logits, TokenMask, at_least_float32, require_same_shape
from zephyr_lab.losses.shapes import Scalar, TeacherLogits, TokenScores


def forward_kl(student: Logits, teacher: TeacherLogits, *, temperature: float) -> TokenScores:
    """KL(teacher, student) of the next token at each position in nats (eq. 2), shape (row, position).

    The paper has no temperature (1); its code divides both models' logits by it. Not masked and not averaged.
    Raises ValueError where the shapes differ, vocabularies of different sizes included.
    """
    log_student, log_teacher = _log_probs(student, teacher, temperature)
    return _relative_entropy(log_teacher, log_student)


def reverse_kl(student: Logits, teacher: TeacherLogits, *, temperature: float) -> TokenScores:
    """KL(student, teacher) of the next token at each position in nats, shape (row, position).

    The direction of MiniLLM (Gu et al. 2023, arXiv 2306.08543): it seeks one of the teacher's modes where the forward
    divergence covers all. Raises as `forward_kl`.
    """
    log_student, log_teacher = _log_probs(student, teacher, temperature)
    return _relative_entropy(log_student, log_teacher)


def predicting(tokens: TokenMask) -> TokenMask:
    """The positions whose logits predict a token of `tokens`: the mask shifted left by one.

    The published code leaves the shift out, so that the first token of each answer is never distilled and the
    prediction after its last one is; `tokens` itself, unshifted, is that switch.
    """
    nothing = torch.zeros_like(tokens[:, :1])  # the last position predicts a token that is not there
    return torch.cat([tokens[:, 1:], nothing], dim=1)


def mean_of_sequences(scores: TokenScores, counted: TokenMask) -> Scalar:
    """Mean over rows of each row's mean over its counted positions, as eq. (2) is printed: 1/T a sequence.

    Rows without a counted position are left out; 0 where all are.
    """
    lengths = counted.sum(dim=1)
    sums = torch.where(counted, scores, 0.0).sum(dim=1)
    return (sums / lengths.clamp(min=1)).sum() / (lengths > 0).sum().clamp(min=1)


def mean_of_tokens(scores: TokenScores, counted: TokenMask) -> Scalar:
    """Mean over all counted positions of the batch, as the code has it: long rows weigh more. 0 where none counts."""
    return torch.where(counted, scores, 0.0).sum() / counted.sum().clamp(min=1)


def kd_loss(
    prediction: Scalar,
    attention: Scalar,
    cross_entropy: Scalar,
    *,
    prediction_weight: float,
    attention_weight: float,
    ce_weight: float,
) -> Scalar:
    """The weighted sum of the three losses (eq. 5: weights 1, 1 and 0).

    A loss of weight 0 drops out altogether: one that is only logged cannot make the trained loss infinite or NaN.
    """
    parts = ((prediction_weight, prediction), (attention_weight, attention), (ce_weight, cross_entropy))
    return torch.stack([weight * loss for weight, loss in parts if weight]).sum()


def lambda_weights(kd_weight: float) -> dict[str, float]:
    """Weights of `kd_loss` for the code's lambda: (1 - lambda) * CE + lambda * (prediction + attention)."""
    if not 0 <= kd_weight <= 1:
        raise ValueError(f"kd_weight must be from 0 to 1, got {kd_weight} (the code's lambda is 1)")
    return {"prediction_weight": kd_weight, "attention_weight": kd_weight, "ce_weight": 1 - kd_weight}


def _log_probs(student: Logits, teacher: TeacherLogits, temperature: float) -> tuple[Tensor, Tensor]:
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature} (the paper has 1)")
    require_same_shape(student=student, teacher=teacher)
    student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
    return (student / temperature).log_softmax(dim=-1), (teacher / temperature).log_softmax(dim=-1)


def _relative_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    """sum p log(p / q) over the last axis; entries with p = 0 add nothing, even where q is 0 too."""
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(dim=-1)
