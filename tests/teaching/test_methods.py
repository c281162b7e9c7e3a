"""Policy gradient on the toy: exact forms against autograd, ends against the optimum, samples in the mean."""

import math

import pytest
import torch

from zephyr_lab.teaching import descent, methods, toy

TOYS = toy.draw([0, 1], prompts=2, answers=3, beta=0.5)
AWAY = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradient(loss, logits=AWAY):
    leaf = logits.clone().requires_grad_(True)
    return torch.autograd.grad(loss(leaf.log_softmax(-1)).sum(), leaf)[0]


def test_rloo_over_all_draws_has_the_exact_gradient_of_the_objective():
    exact = gradient(lambda policy: methods.policy_gradient(TOYS, policy))
    torch.testing.assert_close(gradient(lambda policy: methods.rloo_over_all_draws(TOYS, policy)), exact)


def test_ppo_at_its_old_policy_has_the_exact_gradient_of_the_objective():
    exact = gradient(lambda policy: methods.policy_gradient(TOYS, policy))
    torch.testing.assert_close(gradient(methods.ppo_over_all_draws(TOYS, clip=0.2, inner=1)), exact)


def test_ppo_beyond_its_band_is_not_pulled_further():
    loss = methods.ppo_over_all_draws(TOYS, clip=0.2, inner=3)
    loss(TOYS.reference)  # the old policy
    rewards = methods.penalised(TOYS, TOYS.reference)
    good = rewards > (TOYS.reference.exp() * rewards).sum(-1, keepdim=True)  # those with a positive advantage
    up, down = TOYS.reference + math.log(1.3), TOYS.reference + math.log(0.7)
    for moved, still in ((torch.where(good, up, down), True), (torch.where(good, down, up), False)):
        leaf = moved.clone().requires_grad_(True)
        (pull,) = torch.autograd.grad(loss(leaf).sum(), leaf)
        assert (pull == 0).all() if still else (pull != 0).all()


@pytest.mark.parametrize("name", ["policy gradient", "RLOO", "PPO"])
def test_each_reaches_the_closed_form(name):
    loss = {
        "policy gradient": lambda p: methods.policy_gradient(TOYS, p),
        "RLOO": lambda p: methods.rloo_over_all_draws(TOYS, p),
        "PPO": methods.ppo_over_all_draws(TOYS, clip=0.2, inner=4),
    }[name]
    way = descent.natural_path(loss, TOYS.reference, rate=0.5, at=[0, 200])
    assert toy.kl(way[0], toy.optimum(TOYS)).min() > 0.1
    assert toy.kl(way[200], toy.optimum(TOYS)).max() < 1e-12


def test_a_sampled_step_is_the_exact_one_in_the_mean():
    # one small step from many samples: its change of logits over rate and prompts is the gradient of the objective
    one = toy.draw([4], prompts=2, answers=3, beta=0.5)
    after = methods.sampled_rloo(one, draws=400_000, samples=200_000, rate=1e-3, seed=0)
    exact = -gradient(lambda policy: methods.policy_gradient(one, policy), one.reference)
    moved = (after - one.reference) / 1e-3
    expected = 2 * exact - (one.reference.exp() * 2 * exact).sum(-1, keepdim=True)  # normalised logits, first order
    torch.testing.assert_close(moved, expected, atol=0.01, rtol=0)


def test_more_draws_come_closer_and_the_same_seed_gives_the_same_bits():
    few, many = (methods.sampled_rloo(TOYS, draws=n, samples=4, rate=2.0, seed=0) for n in (160, 16_000))
    best = toy.optimum(TOYS)
    assert (toy.kl(many, best) < toy.kl(few, best) / 10).all()
    again = methods.sampled_rloo(TOYS, draws=160, samples=4, rate=2.0, seed=0)
    torch.testing.assert_close(again, few, rtol=0, atol=0)


def test_ppo_without_steps_on_its_draws_is_refused():
    with pytest.raises(ValueError, match="inner must be at least 1, got 0"):
        methods.ppo_over_all_draws(TOYS, clip=0.2, inner=0)


def test_draws_that_are_no_whole_number_of_steps_are_refused():
    with pytest.raises(ValueError, match="draws must be a whole multiple of prompts x samples = 8, got 20"):
        methods.sampled_rloo(TOYS, draws=20, samples=4, rate=2.0, seed=0)
