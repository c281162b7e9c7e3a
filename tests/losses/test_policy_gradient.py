"""Advantages against worked numbers, and the estimators' expectation against the exact gradient, by enumeration."""

import itertools
import math

import pytest
import torch

from zephyr_lab.losses import policy_gradient


def tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


REWARDS = tensor([1.0, -2.0, 0.5])
LOGITS = tensor([0.3, -0.4, 0.1])


def exact_gradient():
    """Gradient of sum_a pi(a) r(a) with respect to the logits."""
    logits = LOGITS.clone().requires_grad_()
    (torch.softmax(logits, 0) * REWARDS).sum().backward()
    return logits.grad


def expected_gradient(advantages, samples):
    """Mean gradient over every way to draw `samples` answers from pi: advantages maps (1, samples) to the same."""
    total = torch.zeros_like(LOGITS)
    for drawn in itertools.product(range(3), repeat=samples):
        logits = LOGITS.clone().requires_grad_()
        log_probs = torch.log_softmax(logits, 0)[list(drawn)]
        chance = log_probs.detach().sum().exp()
        losses = policy_gradient.reinforce_loss(log_probs, advantages(REWARDS[list(drawn)][None])[0])
        losses.mean().backward()
        total -= chance * logits.grad
    return total


def test_reinforce_is_unbiased():
    assert expected_gradient(lambda rewards: rewards, 1).tolist() == pytest.approx(exact_gradient().tolist())


def test_a_constant_baseline_keeps_reinforce_unbiased():
    assert expected_gradient(lambda rewards: rewards - 5.0, 1).tolist() == pytest.approx(exact_gradient().tolist())


@pytest.mark.parametrize("samples", [2, 3])
def test_rloo_is_unbiased(samples):
    gradient = expected_gradient(policy_gradient.rloo_advantages, samples)
    assert gradient.tolist() == pytest.approx(exact_gradient().tolist())


@pytest.mark.parametrize("samples", [2, 3])
def test_a_mean_that_holds_the_answer_itself_shortens_the_gradient(samples):
    gradient = expected_gradient(policy_gradient.centred_advantages, samples)
    assert gradient.tolist() == pytest.approx((exact_gradient() * (samples - 1) / samples).tolist())


def test_division_by_the_standard_deviation_turns_the_gradient():
    # over prompts whose rewards differ in scale no common factor is left: GRPO follows another objective
    gradient = expected_gradient(policy_gradient.grpo_advantages, 2)
    ratios = gradient / exact_gradient()
    assert ratios.max() - ratios.min() > 0.1


def test_rloo_worked_by_hand():
    # others' means: (2 + 6) / 2 = 4, (1 + 6) / 2 = 3.5, (1 + 2) / 2 = 1.5
    advantages = policy_gradient.rloo_advantages(tensor([[1.0, 2.0, 6.0]]))
    assert advantages.tolist()[0] == pytest.approx([-3.0, -1.5, 4.5])


def test_rloo_of_two_is_the_difference_of_the_two():
    assert policy_gradient.rloo_advantages(tensor([[1.0, 4.0]])).tolist() == [[-3.0, 3.0]]


def test_grpo_worked_by_hand():
    # mean 2, standard deviation sqrt((1 + 0 + 1) / 2) = 1
    advantages = policy_gradient.grpo_advantages(tensor([[1.0, 2.0, 3.0]]), epsilon=0.0)
    assert advantages.tolist()[0] == pytest.approx([-1.0, 0.0, 1.0])


def test_equal_rewards_give_no_advantage():
    equal = tensor([[2.0, 2.0, 2.0]])
    for advantages in (policy_gradient.rloo_advantages, policy_gradient.grpo_advantages):
        assert advantages(equal).tolist() == [[0.0, 0.0, 0.0]]


def test_a_group_of_one_is_refused():
    for advantages in (
        policy_gradient.rloo_advantages,
        policy_gradient.grpo_advantages,
        policy_gradient.centred_advantages,
    ):
        with pytest.raises(ValueError, match="at least two answers"):
            advantages(tensor([[2.0]]))


def test_no_gradient_runs_through_the_advantages():
    rewards = tensor([1.0, 2.0]).requires_grad_()
    log_probs = tensor([-1.0, -2.0]).requires_grad_()
    policy_gradient.reinforce_loss(log_probs, rewards).sum().backward()
    assert rewards.grad is None
    assert log_probs.grad.tolist() == [-1.0, -2.0]


def test_the_kl_penalised_objective_has_the_tilted_reference_as_its_optimum():
    # Rafailov et al. eq. 4: pi* = pi_ref exp(r / beta) / Z; there every penalised reward is the same, beta log Z
    beta, reference = 0.5, torch.log_softmax(LOGITS, 0)
    optimum = torch.log_softmax(reference + REWARDS / beta, 0)
    penalised = policy_gradient.kl_penalised_rewards(REWARDS, optimum, reference, beta=beta)
    log_z = math.log((reference + REWARDS / beta).exp().sum())
    assert penalised.tolist() == pytest.approx([beta * log_z] * 3)


def test_a_negative_beta_is_refused():
    with pytest.raises(ValueError, match="beta must not be negative, got -1"):
        policy_gradient.kl_penalised_rewards(REWARDS, LOGITS, LOGITS, beta=-1.0)
