"""Kahneman-Tversky optimisation: single responses, marked desirable or not, against a point of reference.

Ethayarajh et al. 2024, arXiv 2402.01306. Summed log-probabilities come in, losses go out; no pairs are needed.
"""

from dataclasses import dataclass

import torch

from zephyr_lab.core.shapes import RowNumbers, at_least_float32, require_same_shape
from zephyr_lab.losses.shapes import RowFlags, Scalar


@dataclass(frozen=True, slots=True)
class ResponseLogProbs:
    """log pi(response | prompt) by the policy and by the reference, summed over tokens, in nats, shape (row,) each.

    Held in float32 at least. Raises ValueError unless both have one shape.
    """

    policy: RowNumbers
    reference: RowNumbers

    def __post_init__(self) -> None:
        require_same_shape(policy=self.policy, reference=self.reference)
        for name in ("policy", "reference"):
            object.__setattr__(self, name, at_least_float32(getattr(self, name)))


def kto_loss(
    responses: ResponseLogProbs,
    desirable: RowFlags,
    reference_point: Scalar,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> RowNumbers:
    """KTO loss of each response (section 4.1): weight * (1 - value), shape (row,), not averaged.

    value = sigmoid(beta * (log-ratio - z)) of a desirable response, sigmoid(beta * (z - log-ratio)) of another, with
    the reference point z = KL(pi || pi_ref) (`reference_point`), through which no gradient flows. Raises ValueError
    for a beta that is not positive or shapes that differ.
    """
    if beta <= 0:
        raise ValueError(f"beta must be positive, got {beta} (the paper trains with 0.1)")
    require_same_shape(responses=responses.policy, desirable=desirable)
    distance = beta * (responses.policy - responses.reference - reference_point.detach())
    value = torch.sigmoid(torch.where(desirable, distance, -distance))
    return torch.where(desirable, desirable_weight, undesirable_weight) * (1 - value)


def reference_point(unrelated: ResponseLogProbs) -> Scalar:
    """The batch's estimate of KL(pi || pi_ref), not below 0, without gradient: a scalar (section 4.1).

    `unrelated`: responses paired with prompts that they do not answer (a batch shifted by one), so that no
    sampling is needed; biased, as the paper says.
    """
    return (unrelated.policy - unrelated.reference).mean().clamp(min=0).detach()
