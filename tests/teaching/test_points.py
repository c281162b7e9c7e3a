"""Each method's derived point: closed forms with two answers, and runs of the library's losses that end there."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from zephyr_lab.teaching import descent, methods, points, toy
from zephyr_lab.teaching.toy import Toy

WEIGHT = 0.7  # of ORPO
SIMPO = {"beta": 2.0, "gamma": 0.5}
TOYS = toy.draw([0, 1], prompts=2, answers=4, beta=0.5)
# one prompt, two answers: a reference of 0.7 and 0.3, the second one better by 1
TWO = Toy(
    torch.tensor([[[0.0, 1.0]]], dtype=torch.float64), torch.tensor([[[0.7, 0.3]]], dtype=torch.float64).log(), 0.5
)
P = 1 / (1 + math.exp(-1))  # chance that the second one wins


def log_odds_of_the_second(point):
    table = point[0, 0]
    return float(table[1] - table[0])


def test_two_answers_dpo_and_rlhf():
    assert log_odds_of_the_second(points.regularised_optimum(TWO)) == pytest.approx(math.log(0.3 / 0.7) + 1 / 0.5)


def test_two_answers_ipo_follows_chances_and_not_rewards():
    # an answer drawn from mu is itself with chance mu, and then wins half of the time
    second, first = 0.3 * 0.5 + 0.7 * P, 0.7 * 0.5 + 0.3 * (1 - P)
    assert log_odds_of_the_second(points.ipo(TWO, tau=0.2)) == pytest.approx(
        math.log(0.3 / 0.7) + (second - first) / 0.2
    )


def test_two_answers_cdpo_believes_nine_labels_in_ten():
    believed = 0.9 * P + 0.1 * (1 - P)
    logit = math.log(believed / (1 - believed))
    assert log_odds_of_the_second(points.cdpo(TWO, label_smoothing=0.1)) == pytest.approx(
        math.log(0.3 / 0.7) + logit / 0.5
    )


def test_two_answers_simpo_s_quadratic():
    g = math.exp(-SIMPO["gamma"])
    x = ((2 * P - 1) + math.sqrt((2 * P - 1) ** 2 + 4 * P * (1 - P) * g**2)) / (2 * (1 - P) * g)
    assert log_odds_of_the_second(points.simpo(TWO, **SIMPO)) == pytest.approx(math.log(x) / SIMPO["beta"])


def test_two_answers_orpo_balances_fine_tuning_and_odds():
    # with two answers the log-odds of the second is d, of the first -d: d/dd of both terms
    def slope(d):
        sigmoid = lambda value: 1 / (1 + math.exp(-value))  # noqa: E731
        return (P - sigmoid(d)) + WEIGHT * 2 * (P - sigmoid(2 * d))

    assert log_odds_of_the_second(points.orpo(TWO, weight=WEIGHT)) == pytest.approx(brentq(slope, -5, 5))


def test_two_answers_kto_takes_the_majority_alone():
    table = points.kto(TWO, beta=0.5)[0, 0]
    assert table.tolist() == [-math.inf, pytest.approx(0.0)]


def test_cdpo_without_doubt_and_simpo_without_margin_know_the_rewards():
    torch.testing.assert_close(
        points.cdpo(TOYS, label_smoothing=0.0), points.regularised_optimum(TOYS), atol=1e-9, rtol=0
    )
    even = Toy(TOYS.rewards, torch.zeros_like(TOYS.rewards).log_softmax(-1), 2.0)  # SimPO's "reference"
    marginless = points.simpo(TOYS, beta=2.0, gamma=0.0)
    torch.testing.assert_close(marginless, points.regularised_optimum(even), atol=1e-9, rtol=0)


def test_cdpo_is_dpo_on_labels_of_which_some_are_turned_round():
    policy = TOYS.rewards.log_softmax(-1)
    smooth = methods.cdpo(TOYS, policy, toy.outcome_shares(TOYS), label_smoothing=0.1)
    noisy = methods.dpo(TOYS, policy, toy.outcome_shares(TOYS, noise=0.1))
    torch.testing.assert_close(smooth, noisy)


LOSSES_AND_POINTS = {
    "DPO": (methods.dpo, points.regularised_optimum, {}),
    "IPO": (methods.ipo, points.ipo, {"tau": 0.2}),
    "cDPO": (methods.cdpo, points.cdpo, {"label_smoothing": 0.1}),
    "ORPO": (methods.orpo, points.orpo, {"weight": WEIGHT}),
    "SimPO": (methods.simpo, points.simpo, SIMPO),
    "SFT on chosen": (methods.supervised, points.supervised, {}),
}


@pytest.mark.parametrize("start", ["reference", "elsewhere"])
@pytest.mark.parametrize("name", LOSSES_AND_POINTS)
def test_the_losses_lead_to_the_derived_point_wherever_they_start(name, start):
    shares = toy.outcome_shares(TOYS)
    loss, point, knobs = LOSSES_AND_POINTS[name]
    begin = TOYS.reference if start == "reference" else (-TOYS.rewards).log_softmax(-1)
    reached = descent.minimise(lambda p: loss(TOYS, p, shares, **knobs), begin)
    assert toy.kl(point(TOYS, **knobs), reached).max() < 1e-10


def test_kto_leads_to_its_point_from_two_starts():
    shares, derived = toy.outcome_shares(TOYS), points.kto(TOYS, beta=0.5)
    assert derived.isinf().any() and not derived.isinf().all(-1).any()
    for begin in (TOYS.reference, TOYS.rewards.log_softmax(-1)):
        way = descent.natural_path(
            lambda p: methods.kto(TOYS, p, shares, beta=0.5), begin, rate=3.0, at=[600], largest=0.5
        )
        assert toy.kl(derived, way[600]).max() < 1e-10


def test_conditions_that_are_not_met_are_an_error():
    with pytest.raises(ValueError, match=r"first-order conditions are not met: the worst is off by 1\.0e\+00"):
        points._accepted(np.zeros(2), lambda solution: solution + 1)
