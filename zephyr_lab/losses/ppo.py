"""Proximal policy optimisation for answers: per-token rewards, generalised advantages, clipped losses.

Schulman et al. 2017, arXiv 1707.06347 (PPO); Schulman et al. 2015, arXiv 1506.02438 (GAE); Ziegler et al. 2019, arXiv
1909.08593 (the KL penalty as a reward). Tensors of shape (row, token), answers padded on the right; unreduced.
"""

import torch

from zephyr_lab.core.shapes import RowNumbers, at_least_float32, require_same_shape
from zephyr_lab.losses.kl_estimators import k1
from zephyr_lab.losses.shapes import AnswerMask, AnswerScores, AnyScores


def token_rewards(
    scores: RowNumbers, log_probs: AnswerScores, reference_log_probs: AnswerScores, mask: AnswerMask, *, beta: float
) -> AnswerScores:
    """-beta * (log pi - log pi_ref) of each token, the answer's score added at its last one, shape (row, token).

    Ziegler et al. 2019, eq. 2, spread over the tokens; a row's sum is score - beta * (its summed log-ratio). 0 on
    padding. Raises ValueError for a negative `beta` or a row without tokens.
    """
    if beta < 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    require_same_shape(log_probs=log_probs, reference_log_probs=reference_log_probs, mask=mask)
    if not bool(mask.any(dim=1).all()):
        raise ValueError("an answer has no tokens: there is nothing to reward")
    rewards = torch.where(mask, -beta * k1(log_probs, reference_log_probs), 0.0)
    last = mask.sum(dim=1) - 1
    return rewards.scatter_add(1, last[:, None], scores[:, None].to(rewards.dtype))


def generalised_advantages(
    rewards: AnswerScores, values: AnswerScores, mask: AnswerMask, *, discount: float, trace_decay: float
) -> AnswerScores:
    """GAE(discount, trace_decay) of each token (GAE paper eq. 16), shape (row, token); 0 on padding.

    delta_t = r_t + discount * V_{t+1} - V_t, with V = 0 after the last token; the advantage is the sum of
    (discount * trace_decay)^l * delta_{t+l}. trace_decay 1: rewards still to come less V; 0: delta itself.
    """
    require_same_shape(rewards=rewards, values=values, mask=mask)
    for name, value in (("discount", discount), ("trace_decay", trace_decay)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be from 0 to 1, got {value}")
    advantages = torch.zeros_like(rewards)
    following = rewards.new_zeros(len(rewards))  # advantage and value of the token after this one
    value_after = torch.zeros_like(following)
    for token in reversed(range(rewards.shape[1])):
        delta = rewards[:, token] + discount * value_after - values[:, token]
        counted = mask[:, token]
        following = torch.where(counted, delta + discount * trace_decay * following, 0.0)
        value_after = torch.where(counted, values[:, token], 0.0)
        advantages[:, token] = following
    return advantages


def clipped_surrogate_loss(
    log_probs: AnyScores, old_log_probs: AnyScores, advantages: AnyScores, *, clip: float
) -> AnyScores:
    """-min(ratio * A, clip(ratio, 1 - clip, 1 + clip) * A), elementwise: the negative of PPO's eq. 7.

    ratio = pi / pi_old. A step that would push the ratio beyond the band in the direction that A asks for gets no
    gradient. Raises ValueError for a `clip` that is not positive.
    """
    if clip <= 0:
        raise ValueError(f"clip must be positive, got {clip} (PPO trains with 0.2)")
    require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, advantages=advantages)
    ratio = torch.exp(k1(log_probs, old_log_probs))
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def value_loss(values: AnyScores, returns: AnyScores) -> AnyScores:
    """Half the squared error of the value, elementwise (PPO eq. 9's L_VF, halved so that its gradient is the error)."""
    require_same_shape(values=values, returns=returns)
    return (at_least_float32(values) - at_least_float32(returns)).square() / 2


def clipped_value_loss(values: AnyScores, old_values: AnyScores, returns: AnyScores, *, clip: float) -> AnyScores:
    """The larger of two value losses, elementwise: of the value, and of the value held within `clip` of the old one.

    Not in the paper but in its authors' code. Raises ValueError for a `clip` that is not positive.
    """
    if clip <= 0:
        raise ValueError(f"clip must be positive, got {clip}")
    require_same_shape(values=values, old_values=old_values, returns=returns)
    held = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum(value_loss(values, returns), value_loss(held, returns))


def whitened(scores: AnswerScores, mask: AnswerMask) -> AnswerScores:
    """`scores` with mean 0 and standard deviation 1 over the counted tokens (division by their number); 0 elsewhere.

    Scores that are all equal come out as 0.
    """
    require_same_shape(scores=scores, mask=mask)
    counted = scores[mask]
    if counted.numel() == 0:
        return torch.zeros_like(scores)
    centred = torch.where(mask, scores - counted.mean(), 0.0)
    spread = counted.std(correction=0)
    return centred / spread if spread > 0 else torch.zeros_like(scores)
