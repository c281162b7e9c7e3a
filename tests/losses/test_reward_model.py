"""Reward models: the likelihood against SciPy and closed forms; tests/methods/test_reward.py holds it against TRL."""

import math

import pytest
import torch
from scipy.special import expit

from zephyr_lab.losses import reward_model


def tensor(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_equal_rewards_are_a_fair_coin():
    assert reward_model.preference_probabilities(tensor(2.0), tensor(2.0)).item() == pytest.approx(0.5)
    assert reward_model.reward_model_loss(tensor(2.0), tensor(2.0)).item() == pytest.approx(math.log(2))


def test_the_loss_is_the_log_of_scipys_logistic_function():
    chosen, rejected = tensor(1.5, -0.3, 4.0), tensor(0.2, 0.9, -3.0)
    losses = reward_model.reward_model_loss(chosen, rejected)
    assert losses.tolist() == pytest.approx((-torch.log(torch.tensor(expit((chosen - rejected).numpy())))).tolist())


def test_a_constant_for_all_answers_changes_no_loss():
    chosen, rejected = tensor(1.5, -0.3), tensor(0.2, 0.9)
    moved = reward_model.reward_model_loss(chosen + 7, rejected + 7)
    assert moved.tolist() == pytest.approx(reward_model.reward_model_loss(chosen, rejected).tolist())


def test_the_best_reward_difference_is_the_log_odds_of_the_preferences():
    # 3 of 4 judges prefer the first answer: Bradley-Terry's maximum likelihood is a difference of log 3
    difference = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([difference], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        nothing = torch.zeros(1, dtype=torch.float64)
        won, lost = (
            reward_model.reward_model_loss(difference, nothing),
            reward_model.reward_model_loss(nothing, difference),
        )
        loss = (3 * won + lost).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert difference.item() == pytest.approx(math.log(3), abs=1e-5)


def test_a_margin_asks_for_a_larger_difference():
    # difference 1, margin 1: as undecided as equal rewards
    loss = reward_model.margin_reward_model_loss(tensor(2.0), tensor(1.0), tensor(1.0))
    assert loss.item() == pytest.approx(math.log(2))


def test_no_margin_is_the_plain_loss():
    chosen, rejected = tensor(1.5, -0.3), tensor(0.2, 0.9)
    plain = reward_model.reward_model_loss(chosen, rejected)
    assert torch.equal(reward_model.margin_reward_model_loss(chosen, rejected, torch.zeros_like(chosen)), plain)


def test_centring_finds_the_constant_that_the_likelihood_leaves_free():
    # d/dc of (chosen + c + rejected + c)^2 is 0 where c is minus the mean reward
    chosen, rejected = tensor(3.0), tensor(1.0)
    shifts = tensor(-2.5, -2.0, -1.5)
    penalties = [reward_model.centring_penalties(chosen + shift, rejected + shift).item() for shift in shifts]
    assert penalties == pytest.approx([1.0, 0.0, 1.0])


def test_rewards_that_torch_would_broadcast_are_refused():
    with pytest.raises((ValueError, TypeError), match="rejected"):  # TypeError: where shapes are checked
        reward_model.reward_model_loss(tensor(1.0, 2.0), tensor(1.0))
