"""Simple preference optimisation: the mean log-probability is the reward, a margin is asked for, no reference model.

Meng et al. 2024, arXiv 2405.14734. Summed log-probabilities come in together with token counts, losses go out.
"""

from torch.nn.functional import logsigmoid

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs, mean_log_probs


def simpo_loss(policy: PairLogProbs, lengths: PairLengths, *, beta: float, gamma: float) -> PairScores:
    """SimPO loss of each pair (eq. 6), shape (pair,), not averaged.

    -log sigmoid(beta * (mean log-prob of the chosen - of the rejected) - gamma). `gamma` is the margin itself; TRL
    and the paper's tables also speak of gamma / beta. Raises ValueError for a beta that is not positive or a negative
    gamma.
    """
    if beta <= 0:
        raise ValueError(f"beta must be positive, got {beta} (the paper trains with 2 to 10)")
    if gamma < 0:
        raise ValueError(f"gamma must be 0 or more, got {gamma}")
    means = mean_log_probs(policy, lengths)
    return -logsigmoid(beta * (means.chosen - means.rejected) - gamma)
