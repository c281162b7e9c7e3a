"""Each method's derived point: closed forms with two answers, and runs of the library's losses that end there."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from zephyr_lab.methods.recipes.toy import MethodKnobs
from zephyr_lab.teaching import descent, methods, points, toy, toy_runs
from zephyr_lab.teaching.toy import Toy

KNOBS = MethodKnobs(tau=0.2, label_smoothing=0.1, kto_beta=0.5, orpo_weight=0.7, simpo_beta=2.0, simpo_gamma=0.5)
TOYS = toy.draw([0, 1], prompts=2, answers=4, beta=0.5)
# one prompt, two answers: a reference of 0.7 and 0.3, the second one better by 1
TWO = Toy(
    torch.tensor([[[0.0, 1.0]]], dtype=torch.float64), torch.tensor([[[0.7, 0.3]]], dtype=torch.float64).log(), 0.5
)
P = 1 / (1 + math.exp(-1))  # chance that the second one wins


def log_odds_of_the_second(name):
    table = toy_runs.derived_points(TWO, KNOBS)[name][0, 0]
    return float(table[1] - table[0])


def test_two_answers_dpo_and_rlhf():
    assert log_odds_of_the_second("DPO") == pytest.approx(math.log(0.3 / 0.7) + 1 / 0.5)


def test_two_answers_ipo_follows_chances_and_not_rewards():
    # an answer drawn from mu is itself with chance mu, and then wins half of the time
    second, first = 0.3 * 0.5 + 0.7 * P, 0.7 * 0.5 + 0.3 * (1 - P)
    assert log_odds_of_the_second("IPO") == pytest.approx(math.log(0.3 / 0.7) + (second - first) / 0.2)


def test_two_answers_cdpo_believes_nine_labels_in_ten():
    believed = 0.9 * P + 0.1 * (1 - P)
    logit = math.log(believed / (1 - believed))
    assert log_odds_of_the_second("cDPO") == pytest.approx(math.log(0.3 / 0.7) + logit / 0.5)


def test_two_answers_simpo_s_quadratic():
    g = math.exp(-KNOBS.simpo_gamma)
    x = ((2 * P - 1) + math.sqrt((2 * P - 1) ** 2 + 4 * P * (1 - P) * g**2)) / (2 * (1 - P) * g)
    assert log_odds_of_the_second("SimPO") == pytest.approx(math.log(x) / KNOBS.simpo_beta)


def test_two_answers_orpo_balances_fine_tuning_and_odds():
    # with two answers the log-odds of the second is d, of the first -d: d/dd of both terms
    def slope(d):
        sigmoid = lambda value: 1 / (1 + math.exp(-value))  # noqa: E731
        return (P - sigmoid(d)) + KNOBS.orpo_weight * 2 * (P - sigmoid(2 * d))

    assert log_odds_of_the_second("ORPO") == pytest.approx(brentq(slope, -5, 5))


def test_two_answers_kto_takes_the_majority_alone():
    table = toy_runs.derived_points(TWO, KNOBS)["KTO"][0, 0]
    assert table.tolist() == [-math.inf, pytest.approx(0.0)]


def test_cdpo_without_doubt_and_simpo_without_margin_know_the_rewards():
    chances, pairs = toy.preference_chances(TOYS)[0].numpy(), toy.pair_shares(TOYS)[0].numpy()
    reference, rewards = TOYS.reference[0].numpy(), TOYS.rewards[0].numpy()
    undoubting = points.cdpo(reference, chances, pairs, beta=0.5, label_smoothing=0.0)
    np.testing.assert_allclose(undoubting, points.regularised_optimum(reference, rewards, beta=0.5), atol=1e-9)
    marginless = points.simpo(chances, pairs, beta=2.0, gamma=0.0)
    even = np.full_like(reference, -math.log(4))  # SimPO's "reference" gives every answer the same chance
    np.testing.assert_allclose(marginless, points.regularised_optimum(even, rewards, beta=2.0), atol=1e-9)


def test_cdpo_is_dpo_on_labels_of_which_some_are_turned_round():
    policy = TOYS.rewards.log_softmax(-1)
    smooth = methods.cdpo(TOYS, policy, toy.outcome_shares(TOYS), KNOBS)
    noisy = methods.dpo(TOYS, policy, toy.outcome_shares(TOYS, noise=0.1))
    torch.testing.assert_close(smooth, noisy)


@pytest.mark.parametrize("start", ["reference", "elsewhere"])
@pytest.mark.parametrize("name", ["DPO", "IPO", "cDPO", "ORPO", "SimPO", "SFT on chosen"])
def test_the_losses_lead_to_the_derived_point_wherever_they_start(name, start):
    shares = toy.outcome_shares(TOYS)
    loss = {
        "DPO": lambda p: methods.dpo(TOYS, p, shares),
        "IPO": lambda p: methods.ipo(TOYS, p, shares, KNOBS),
        "cDPO": lambda p: methods.cdpo(TOYS, p, shares, KNOBS),
        "ORPO": lambda p: methods.orpo(TOYS, p, shares, KNOBS),
        "SimPO": lambda p: methods.simpo(TOYS, p, shares, KNOBS),
        "SFT on chosen": lambda p: methods.supervised(TOYS, p, shares),
    }[name]
    begin = TOYS.reference if start == "reference" else (-TOYS.rewards).log_softmax(-1)
    reached = descent.bottom(loss, begin)
    assert toy.kl(toy_runs.derived_points(TOYS, KNOBS)[name], reached).max() < 1e-10


def test_kto_leads_to_its_point_from_two_starts():
    shares, derived = toy.outcome_shares(TOYS), toy_runs.derived_points(TOYS, KNOBS)["KTO"]
    assert derived.isinf().any() and not derived.isinf().all(-1).any()
    for begin in (TOYS.reference, TOYS.rewards.log_softmax(-1)):
        way = descent.natural_path(
            lambda p: methods.kto(TOYS, p, shares, KNOBS), begin, rate=3.0, at=[600], largest=0.5
        )
        assert toy.kl(derived, way[600]).max() < 1e-10


def test_conditions_that_are_not_met_are_an_error():
    with pytest.raises(ValueError, match=r"first-order conditions are not met: the worst is off by 1\.0e\+00"):
        points._accepted(np.zeros(2), lambda solution: solution + 1)
