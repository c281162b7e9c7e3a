"""The exact toy against brute force and algebra: optimum, gap, preferences, counts."""

import math

import pytest
import torch
from scipy.optimize import minimize

from zephyr_lab.teaching import toy
from zephyr_lab.teaching.toy import Toy

TOYS = toy.draw([0, 1], prompts=2, answers=3, beta=0.7)


def test_no_policy_that_an_optimiser_finds_is_better_than_the_closed_form():
    best = toy.objective(TOYS, toy.optimum(TOYS))

    def loss(flat):
        policy = torch.tensor(flat).view(2, 2, 3).log_softmax(-1)
        return -toy.objective(TOYS, policy).sum().item()

    for seed in range(3):
        start = torch.randn(12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = minimize(loss, start.numpy(), method="BFGS", options={"gtol": 1e-9})
        assert -found.fun == pytest.approx(best.sum().item(), abs=1e-9)


def test_the_best_objective_is_beta_times_the_mean_log_partition():
    best = toy.objective(TOYS, toy.optimum(TOYS))
    torch.testing.assert_close(best, 0.7 * toy.log_partition(TOYS).mean(-1))


def test_the_gap_to_the_optimum_is_beta_times_the_divergence_from_it():
    policy = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64).log_softmax(-1)
    best = toy.optimum(TOYS)
    gap = toy.objective(TOYS, best) - toy.objective(TOYS, policy)
    torch.testing.assert_close(gap, 0.7 * toy.kl(policy, best))
    gain = toy.objective(TOYS, best) - toy.objective(TOYS, TOYS.reference)
    torch.testing.assert_close(toy.lost_share(TOYS, policy), gap / gain)


def test_what_is_measured_of_reference_and_optimum():
    reference, best = (toy.measured(TOYS, policy) for policy in (TOYS.reference, toy.optimum(TOYS)))
    assert reference[toy.LOST] == pytest.approx([100.0] * len(reference[toy.LOST]))
    assert max(map(abs, best[toy.LOST] + best[toy.DISTANCE] + reference[toy.KL])) < 1e-12
    assert best[toy.KL] == toy.kl(toy.optimum(TOYS), TOYS.reference).tolist()


def test_the_reward_comes_back_from_the_optimum_up_to_a_term_of_the_prompt():
    # eq. 5: r = beta log(pi* / pi_ref) + beta log Z(x)
    back = toy.implicit_rewards(TOYS, toy.optimum(TOYS)) + 0.7 * toy.log_partition(TOYS)[..., None]
    torch.testing.assert_close(back, TOYS.rewards)


def test_a_certain_policy_has_a_finite_divergence_from_one_that_may_do_anything():
    certain = torch.tensor([[[0.0, -math.inf]]], dtype=torch.float64)
    even = torch.tensor([[[0.5, 0.5]]], dtype=torch.float64).log()
    assert toy.kl(certain, even).item() == pytest.approx(math.log(2))
    assert toy.kl(even, certain).item() == math.inf


def test_outcomes_are_counted_as_a_loop_would_count_them():
    shares = toy.outcome_shares(TOYS, noise=0.1)
    for place in range(2):
        for prompt in range(2):
            by_hand = torch.zeros(3, 3, dtype=torch.float64)
            reference, rewards = TOYS.reference[place, prompt].exp(), TOYS.rewards[place, prompt]
            for first in range(3):
                for second in range(3):
                    if first == second:
                        continue
                    better = 1 / (1 + math.exp(rewards[second] - rewards[first]))
                    said_better = 0.9 * better + 0.1 * (1 - better)
                    by_hand[first, second] += reference[first] * reference[second] * said_better
                    by_hand[second, first] += reference[first] * reference[second] * (1 - said_better)
            torch.testing.assert_close(shares[place, prompt], by_hand / by_hand.sum() / 2)
    torch.testing.assert_close(shares.sum((1, 2, 3)), torch.ones(2, dtype=torch.float64))


def test_drawn_preferences_follow_their_chances():
    counts = toy.sample_preferences(TOYS, 200_000, seed=3)
    assert counts.sum((1, 2, 3)).tolist() == [200_000, 200_000]
    expected = 200_000 * toy.outcome_shares(TOYS)
    seen = expected > 0
    chi_square = ((counts - expected)[seen] ** 2 / expected[seen]).sum().item()
    assert chi_square < 60  # 22 degrees of freedom: 1 in 30,000 lies beyond


def test_a_toy_and_its_preferences_do_not_hang_on_how_many_others_there_are():
    alone = toy.draw([0], prompts=2, answers=3, beta=0.7)
    torch.testing.assert_close(alone.rewards[0], TOYS.rewards[0], rtol=0, atol=0)
    ours, theirs = (toy.sample_preferences(one, 50, seed=2)[0] for one in (alone, TOYS))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_pairs_come_in_the_order_of_a_flattened_table():
    pairs = toy.every_pair(TOYS.rewards)
    table = torch.arange(36).view(2, 2, 3, 3)
    place = int(table[1, 0, 2, 1])
    assert pairs.chosen[place] == TOYS.rewards[1, 0, 2]
    assert pairs.rejected[place] == TOYS.rewards[1, 0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: toy.draw([0], prompts=2, answers=1, beta=1.0), "a toy needs a prompt and two answers, got 2 and 1"),
        (lambda: Toy(TOYS.rewards, TOYS.reference, 0.0), r"beta must be positive, got 0"),
        (lambda: Toy(TOYS.rewards, TOYS.rewards, 1.0), "each prompt's must sum to 1"),
        (lambda: toy.outcome_shares(TOYS, noise=0.5), r"noise must be in \[0, 0\.5\), got 0\.5"),
        (lambda: toy.sample_preferences(TOYS, 0, seed=0), "count must be at least 1, got 0"),
    ],
)
def test_what_is_no_toy_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
