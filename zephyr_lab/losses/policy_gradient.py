"""Policy gradient on whole answers: REINFORCE, and the baselines that answers to one prompt give each other.

Williams 1992 (REINFORCE); Kool et al. 2019 and Ahmadian et al. 2024, arXiv 2402.14740 (leave-one-out, RLOO); Shao et
al. 2024, arXiv 2402.03300 (group-relative, GRPO); Liu et al. 2025, arXiv 2503.20783 (no division). Rewards and summed
log-probabilities come in, advantages and losses go out.
"""

import torch

from zephyr_lab.core.shapes import RowNumbers, require_same_shape
from zephyr_lab.losses.kl_estimators import k1
from zephyr_lab.losses.shapes import GroupRewards


def reinforce_loss(log_probs: RowNumbers, advantages: RowNumbers) -> RowNumbers:
    """-advantage * log pi(answer | prompt), shape (row,), not averaged.

    Its value means nothing; its gradient, averaged over answers drawn from pi, is minus that of the expected reward,
    whatever baseline that does not look at the answer itself was taken from the reward. No gradient runs through
    `advantages`.
    """
    require_same_shape(log_probs=log_probs, advantages=advantages)
    return -advantages.detach() * log_probs


def kl_penalised_rewards(
    rewards: RowNumbers, log_probs: RowNumbers, reference_log_probs: RowNumbers, *, beta: float
) -> RowNumbers:
    """reward - beta * (log pi - log pi_ref) of whole answers, shape (row,): Rafailov et al. 2023, below eq. 3.

    Log-probabilities are summed over the answer's tokens, as pi gave them when the answer was drawn. Raises ValueError
    for a negative `beta`.
    """
    if beta < 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    require_same_shape(rewards=rewards, log_probs=log_probs, reference_log_probs=reference_log_probs)
    return rewards - beta * k1(log_probs, reference_log_probs)


def centred_advantages(rewards: GroupRewards) -> GroupRewards:
    """Reward less the mean of its group, shape (prompt, sample).

    The mean holds the answer's own reward, so the gradient comes out (samples - 1) / samples times too short.
    """
    _require_samples(rewards)
    return rewards - rewards.mean(dim=1, keepdim=True)


def rloo_advantages(rewards: GroupRewards) -> GroupRewards:
    """Reward less the mean reward of the other answers to the prompt, shape (prompt, sample): unbiased (RLOO).

    Raises ValueError for fewer than two answers a prompt.
    """
    samples = _require_samples(rewards)
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (samples - 1)
    return rewards - others


def grpo_advantages(rewards: GroupRewards, *, epsilon: float = 1e-4) -> GroupRewards:
    """(reward - group mean) / (group standard deviation + epsilon), shape (prompt, sample): GRPO, section 4.1.2.

    The standard deviation divides by samples - 1, as TRL's does; the paper does not say. Prompts whose answers hardly
    differ in reward weigh as much as all others, which no expected reward asks for. A group of equal rewards gives 0.
    """
    _require_samples(rewards)
    return centred_advantages(rewards) / (torch.std(rewards, dim=1, keepdim=True) + epsilon)


def _require_samples(rewards: GroupRewards) -> int:
    samples = rewards.shape[1]
    if samples < 2:
        raise ValueError(f"a group needs at least two answers to a prompt, got {samples}")
    return samples
