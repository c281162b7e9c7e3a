"""Odds ratio preference optimisation: supervised fine-tuning and preference in one stage, without a reference model.

Hong et al. 2024, arXiv 2403.07691. The probability of a response is that of its average token (eq. 3), so summed
log-probabilities come in together with token counts.
"""

import math

import torch
from torch.nn.functional import logsigmoid

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs, mean_log_probs


def orpo_loss(policy: PairLogProbs, lengths: PairLengths, *, weight: float) -> PairScores:
    """ORPO loss of each pair (eq. 6), shape (pair,), not averaged: -mean log-prob of the chosen + weight * odds ratio.

    `weight` is the paper's lambda; 0 is supervised fine-tuning on the chosen responses, averaged over each response's
    own tokens. Raises ValueError for a negative weight.
    """
    if weight < 0:
        raise ValueError(f"weight must be 0 or more, got {weight} (the paper trains with 0.1)")
    return weight * odds_ratio_loss(policy, lengths) - mean_log_probs(policy, lengths).chosen


def odds_ratio_loss(policy: PairLogProbs, lengths: PairLengths) -> PairScores:
    """-log sigmoid(log odds of the chosen - log odds of the rejected) (eq. 7), shape (pair,).

    odds = P / (1 - P) with P = exp(mean log-prob) (eq. 4). Raises ValueError for a mean log-prob above 0.
    """
    means = mean_log_probs(policy, lengths)
    return -logsigmoid(log_odds(means.chosen) - log_odds(means.rejected))


def log_odds(log_prob: PairScores) -> PairScores:
    """log(P / (1 - P)) of probabilities P given as log P, shape (pair,); infinite at P = 1.

    Raises ValueError for a log-probability above 0.
    """
    if (log_prob > 0).any():
        raise ValueError(f"a log-probability must be 0 or less, got {log_prob.max().item():g}")
    return log_prob - _log_of_the_rest(log_prob)


def _log_of_the_rest(log_prob: PairScores) -> PairScores:
    """log(1 - P) without loss of digits at either end (Maechler 2012, "Accurately computing log(1 - exp(-|a|))")."""
    near_one = log_prob > -math.log(2)
    # each branch gets harmless values where the other one is taken, or its gradient there would be NaN
    small, large = torch.where(near_one, log_prob, -1.0), torch.where(near_one, -1.0, log_prob)
    return torch.where(near_one, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))
