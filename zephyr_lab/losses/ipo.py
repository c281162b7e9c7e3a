"""Identity preference optimisation: DPO's margin is pulled to a finite value instead of being pushed for ever.

Azar et al. 2023, arXiv 2310.12036. Summed log-probabilities come in, losses go out.
"""

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.dpo import margins
from zephyr_lab.losses.log_probs import PairLogProbs


def ipo_loss(policy: PairLogProbs, reference: PairLogProbs, *, tau: float) -> PairScores:
    """IPO loss of each preference pair (eq. 17), (h - 1 / (2 tau))^2, shape (pair,), not averaged.

    h is the chosen response's log-ratio to the reference less the rejected one's, summed over tokens (eq. 11). A larger
    `tau` holds the policy closer to the reference. Over all pairs of answers drawn from mu the minimum is pi
    proportional to pi_ref * exp(p(y beats an answer of mu) / tau). Raises ValueError for a tau that is not positive.
    """
    if tau <= 0:
        raise ValueError(f"tau must be positive, got {tau} (the paper tries 0.1 to 1)")
    return (margins(policy, reference, beta=1.0) - 1 / (2 * tau)) ** 2
