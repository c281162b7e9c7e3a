"""Domain alignment from an expert: the divergence from each row's own teacher.

Kothari et al. 2024, arXiv 2406.19112, equation (6). Logits come in, losses go out. This is the plain form, with both
teachers' logits for all rows; training runs each row through its own teacher alone.
"""

import torch

from zephyr_lab.core.shapes import Logits, TokenMask, require_same_shape
from zephyr_lab.losses.kd import forward_kl, mean_of_sequences
from zephyr_lab.losses.shapes import RowFlags, Scalar, TeacherLogits, TokenScores


def dae_scores(
    student: Logits, *, expert: TeacherLogits, reference: TeacherLogits, is_domain: RowFlags, temperature: float
) -> TokenScores:
    """KL(teacher of the row, student) at each position in nats (eq. 6), shape (row, position), not averaged.

    Rows with `is_domain` follow the expert, the others the reference. With the student's start as reference these are
    exactly 0 at the first step. Raises ValueError where the shapes differ.
    """
    require_same_shape(student=student, expert=expert, reference=reference)
    return forward_kl(student, stacked(expert, reference, is_domain), temperature=temperature)


def stacked(expert: Logits, reference: Logits, is_domain: RowFlags) -> Logits:
    """The teachers' logits as one batch (Figure 3): the expert's on domain rows, the reference's on the others."""
    return torch.where(is_domain[:, None, None], expert, reference)


def sum_of_group_means(scores: TokenScores, counted: TokenMask, is_domain: RowFlags) -> Scalar:
    """Mean over domain rows plus mean over general rows (a reading of eq. 6: L_d + L_nd, each its own mean).

    The few domain rows of a batch then weigh as much as all others. The text does not say whether the two sums are
    averaged apart; `losses.kd.mean_of_sequences` over the whole batch is the other reading, `mean_of_tokens` the code.
    """
    groups = [mean_of_sequences(scores[rows], counted[rows]) for rows in (is_domain, ~is_domain) if rows.any()]
    return torch.stack(groups).sum()
