"""Supervised fine-tuning and DPO as one loss of a pair, in place of one step after the other.

    L = -log sigmoid(beta ((log pi(w) - log ref(w)) - (log pi(l) - log ref(l)))) - weight log pi(w) / |w|

The first term is DPO's (arXiv 2305.18290, eq. 7) of the chosen answer w and the rejected l, the second the next-token
loss of the chosen answer, a mean over its |w| tokens. Pang et al. 2024 (arXiv 2404.19733, section 2) train with this
sum, their weight on the other term. ORPO has the same second term and no reference.
"""

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs, mean_log_probs


def sft_dpo_loss(
    policy: PairLogProbs, reference: PairLogProbs, lengths: PairLengths, *, beta: float, weight: float
) -> PairScores:
    """DPO's loss of each pair plus `weight` times the SFT loss of its chosen answer, shape (pair,), not averaged.

    weight 0 is DPO. Raises ValueError for a negative weight.
    """
    if not weight >= 0:
        raise ValueError(f"weight must be 0 or more, got {weight} (1: both losses as they are)")
    return dpo_loss(policy, reference, beta=beta) - weight * mean_log_probs(policy, lengths).chosen
