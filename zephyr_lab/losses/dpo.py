"""Direct preference optimisation, the dDPO step of Zephyr.

Rafailov et al. 2023, arXiv 2305.18290. Summed log-probabilities come in, losses go out;
no model, file or device is touched, so any notebook or test can call it.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from zephyr_lab.core.shapes import PairScores, require_same_shape
from zephyr_lab.losses.log_probs import PairLogProbs


@dataclass(frozen=True, slots=True)
class PairRewards:
    """Rewards of the chosen and the rejected response of each pair, shape (pair,) each."""

    chosen: PairScores
    rejected: PairScores


def dpo_loss(policy: PairLogProbs, reference: PairLogProbs, *, beta: float) -> PairScores:
    """DPO loss of each preference pair (eq. 7), shape (pair,), not averaged.

    Both models give log pi(response | prompt), summed over the response's tokens, for the
    chosen and the rejected response, shape (pair,) each. A larger `beta` holds the policy
    closer to the reference.
    """
    return -logsigmoid(margins(policy, reference, beta=beta))


def margins(policy: PairLogProbs, reference: PairLogProbs, *, beta: float) -> PairScores:
    """Reward of the chosen response less that of the rejected one, shape (pair,); above 0 the pair is won."""
    rewards = implicit_rewards(policy, reference, beta=beta)
    return rewards.chosen - rewards.rejected


def implicit_rewards(policy: PairLogProbs, reference: PairLogProbs, *, beta: float) -> PairRewards:
    """beta * (log pi(response | prompt) - log pi_ref(response | prompt)) of both responses (section 4, below eq. 7).

    The reward that the policy would be optimal for, up to a term of the prompt alone, which no difference shows.
    """
    if beta <= 0:
        raise ValueError(f"beta must be positive, got {beta} (Zephyr trains with 0.1)")
    require_same_shape(policy=policy.chosen, reference=reference.chosen)
    return PairRewards(beta * (policy.chosen - reference.chosen), beta * (policy.rejected - reference.rejected))
