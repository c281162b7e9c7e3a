"""Few preferences: DPO is the reward model at every step; penalties against SciPy; choices are the held-out set's."""

import pytest
import torch
from scipy.optimize import minimize

from zephyr_lab.losses.reward_model import reward_model_loss
from zephyr_lab.teaching import few_preferences as few
from zephyr_lab.teaching import methods, toy
from zephyr_lab.teaching.descent import adam_path, log_spaced

TOYS = toy.draw([0, 1], prompts=2, answers=3, beta=0.5)
COUNTS = toy.sample_preferences(TOYS, 40, seed=0)


def test_dpo_is_the_reward_model_s_optimum_at_every_step():
    steps = [0, 1, 7, 100]
    policies, twins = (way(TOYS, COUNTS, rate=20.0, at=steps) for way in (few.dpo_path, few.reward_path))
    for step in steps:
        torch.testing.assert_close(policies[step], twins[step], rtol=0, atol=1e-12)
    assert (policies[100] - policies[1]).abs().max() > 0.5


def test_with_many_preferences_dpo_ends_at_the_optimum():
    counts = 1e6 * toy.outcome_shares(TOYS)
    end = few.dpo_path(TOYS, counts, rate=60.0, at=[1000])[1000]
    assert toy.kl(end, toy.optimum(TOYS)).max() < 1e-9


def test_the_penalised_fit_is_scipy_s():
    fitted = few.fit_rewards(COUNTS, penalty=0.5)
    pairs = COUNTS[0, 0]

    def loss(flat):
        rewards = torch.tensor(flat)
        losses = reward_model_loss(rewards[:, None].expand(3, 3).reshape(-1), rewards.expand(3, 3).reshape(-1))
        return ((pairs.flatten() * losses).sum() + 0.25 * (rewards**2).sum()).item()

    found = minimize(loss, [0.0, 0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    assert fitted[0, 0].tolist() == pytest.approx(found.x.tolist(), abs=1e-5)


def test_without_comparisons_a_penalised_reward_is_zero_and_a_heavier_penalty_shrinks():
    assert few.fit_rewards(torch.zeros_like(COUNTS), penalty=1.0).abs().max() == 0
    light, heavy = (few.fit_rewards(COUNTS, penalty=one).square().sum() for one in (0.1, 10.0))
    assert heavy < light


def test_what_is_held_out_is_drawn_apart_and_counts_add_up():
    train, held_out = few.split_preferences(TOYS, 50, held_out=0.2, seed=0)
    assert train.sum((1, 2, 3)).tolist() == [40, 40]
    assert held_out.sum((1, 2, 3)).tolist() == [10, 10]


def test_the_choice_is_the_smallest_loss_of_each_toy():
    policies = [TOYS.reference, toy.optimum(TOYS)]
    chosen, which = few.best_by(torch.tensor([[0.2, 0.5], [0.3, 0.4]]), policies)
    assert which.tolist() == [0, 1]
    assert torch.equal(chosen[0], TOYS.reference[0]) and torch.equal(chosen[1], toy.optimum(TOYS)[1])


def test_a_policy_chosen_by_held_out_preferences_has_their_smallest_loss():
    policies = list(few.dpo_path(TOYS, COUNTS, rate=20.0, at=[0, 3, 30]).values())
    held_out = toy.sample_preferences(TOYS, 20, seed=1)
    losses = few.preference_loss(TOYS, few.chosen_by(TOYS, policies, held_out), held_out)
    assert (
        losses.tolist() == torch.stack([few.preference_loss(TOYS, one, held_out) for one in policies]).amin(0).tolist()
    )


def test_an_early_stop_is_the_step_with_the_smallest_loss_held_out():
    train, held_out = (few.shares(toy.sample_preferences(TOYS, 40, seed=seed)) for seed in (0, 1))
    loss = lambda policy, given: methods.dpo(TOYS, policy, given)  # noqa: E731
    stopped = few.stopped_early(loss, TOYS.reference, train, held_out, steps=60, rate=0.3)
    way = adam_path(lambda p: loss(p, train), TOYS.reference, rate=0.3, at=log_spaced(60, count=few.STOPS))
    by_step = torch.stack([loss(policy, held_out) for policy in way.values()])
    assert loss(stopped, held_out).tolist() == by_step.amin(0).tolist()
    assert (by_step.amin(0) < by_step[0]).all() and (by_step.amin(0) < by_step[-1]).any()


def test_the_loss_of_preferences_is_a_mean_over_them():
    by_one = few.preference_loss(TOYS, toy.optimum(TOYS), COUNTS)
    torch.testing.assert_close(by_one, few.preference_loss(TOYS, toy.optimum(TOYS), 3 * COUNTS))
    torch.testing.assert_close(by_one, methods.dpo(TOYS, toy.optimum(TOYS), COUNTS / 40))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: few.fit_rewards(COUNTS, penalty=0.0), "penalty must be positive, got 0"),
        (
            lambda: few.split_preferences(TOYS, 2, held_out=0.1, seed=0),
            r"2 preferences with a share of 0\.1 held out leave one part empty",
        ),
    ],
)
def test_what_has_no_answer_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
