"""Reward models of pairwise preferences: Bradley and Terry's likelihood, and what keeps its free constant near zero.

Rafailov et al. 2023, arXiv 2305.18290, eq. 1 and 2; Eisenstein et al. 2023, arXiv 2312.09244 (centring). Rewards come
in, losses go out; no model is touched.
"""

import torch
from torch.nn.functional import logsigmoid

from zephyr_lab.core.shapes import PairScores, at_least_float32, require_same_shape


def preference_probabilities(chosen: PairScores, rejected: PairScores) -> PairScores:
    """Bradley-Terry chance that `chosen` is preferred (eq. 1), shape (pair,): sigmoid of the difference of rewards."""
    require_same_shape(chosen=chosen, rejected=rejected)
    return torch.sigmoid(_difference(chosen, rejected))


def reward_model_loss(chosen: PairScores, rejected: PairScores) -> PairScores:
    """-log P(chosen preferred) in nats (eq. 2), shape (pair,), not averaged.

    `chosen` and `rejected` are the rewards r(prompt, response). Only their difference counts, so the data leave a
    constant free for each prompt; see `centring_penalties`.
    """
    require_same_shape(chosen=chosen, rejected=rejected)
    return -logsigmoid(_difference(chosen, rejected))


def margin_reward_model_loss(chosen: PairScores, rejected: PairScores, margins: PairScores) -> PairScores:
    """-log sigmoid(chosen - rejected - margin), shape (pair,): rewards must differ by as much as ratings did.

    Touvron et al. 2023, 2307.09288, eq. 2. Graded preferences enter here; margins of 0 give `reward_model_loss`.
    """
    require_same_shape(chosen=chosen, rejected=rejected, margins=margins)
    return -logsigmoid(_difference(chosen, rejected) - margins)


def centring_penalties(chosen: PairScores, rejected: PairScores) -> PairScores:
    """(chosen + rejected)^2, shape (pair,): added with a small weight it moves the mean reward to zero."""
    require_same_shape(chosen=chosen, rejected=rejected)
    return (at_least_float32(chosen) + at_least_float32(rejected)).square()


def _difference(chosen: PairScores, rejected: PairScores) -> PairScores:
    return at_least_float32(chosen) - at_least_float32(rejected)
