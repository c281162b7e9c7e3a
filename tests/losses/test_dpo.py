"""DPO's loss, rewards and margins against algebra; tests/methods/test_ddpo.py holds them against TRL's trainer."""

import math

import pytest
import torch

from zephyr_lab.losses.dpo import dpo_loss, implicit_rewards, margins
from zephyr_lab.losses.log_probs import PairLogProbs


def pairs(chosen, rejected):
    return PairLogProbs(*torch.tensor([chosen, rejected], dtype=torch.float64))


def test_policy_equal_to_reference_gives_ln_2():
    loss = dpo_loss(pairs([-3.0], [-9.0]), pairs([-3.0], [-9.0]), beta=0.1)
    assert loss.item() == pytest.approx(math.log(2))


def test_eq_7_worked_by_hand():
    # log-ratios: chosen -12 + 20 = 8, rejected -40 + 38 = -2; beta * (8 + 2) = 1
    policy, reference = pairs([-12.0], [-40.0]), pairs([-20.0], [-38.0])
    rewards = implicit_rewards(policy, reference, beta=0.1)
    assert rewards.chosen.item() == pytest.approx(0.8)
    assert rewards.rejected.item() == pytest.approx(-0.2)
    assert margins(policy, reference, beta=0.1).item() == pytest.approx(1.0)
    assert dpo_loss(policy, reference, beta=0.1).item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_a_won_and_a_lost_pair_far_apart_stay_finite():
    # -log sigmoid(x) tends to 0 for large x and to -x for large -x
    loss = dpo_loss(pairs([-1.0, -9001.0], [-9001.0, -1.0]), pairs([-1.0, -1.0], [-1.0, -1.0]), beta=0.1)
    assert loss.tolist() == pytest.approx([0.0, 900.0])


def test_the_gradient_is_beta_times_the_chance_to_lose_the_pair():
    # section 4 of the paper: d loss / d log pi(chosen) = -beta * sigmoid(reward rejected - reward chosen)
    policy, reference = pairs([-12.0], [-40.0]), pairs([-20.0], [-38.0])
    policy.chosen.requires_grad_()
    policy.rejected.requires_grad_()
    dpo_loss(policy, reference, beta=0.1).sum().backward()
    losing = 1 / (1 + math.exp(1.0))
    assert policy.chosen.grad.item() == pytest.approx(-0.1 * losing)
    assert policy.rejected.grad.item() == pytest.approx(0.1 * losing)


def test_terms_of_the_prompt_alone_change_nothing():
    # adding the same to both answers of policy or reference is what a prompt's normaliser does
    loss = dpo_loss(pairs([-5.0], [-7.0]), pairs([-6.0], [-6.5]), beta=0.3)
    shifted = dpo_loss(pairs([-25.0], [-27.0]), pairs([4.0], [3.5]), beta=0.3)
    assert shifted.item() == pytest.approx(loss.item())


def test_each_pair_stands_for_itself():
    policy, reference = pairs([-1.0, -4.0, -2.0], [-3.0, -1.0, -2.5]), pairs([-2.0, -3.0, -2.0], [-2.0, -2.0, -4.0])
    together = dpo_loss(policy, reference, beta=0.5)
    for place in range(3):
        one = slice(place, place + 1)
        alone = dpo_loss(
            PairLogProbs(policy.chosen[one], policy.rejected[one]),
            PairLogProbs(reference.chosen[one], reference.rejected[one]),
            beta=0.5,
        )
        assert together[place] == alone[0]


def test_a_reference_that_torch_would_broadcast_is_refused():
    with pytest.raises(ValueError, match=r"reference \(1,\)"):
        dpo_loss(pairs([-1.0, -2.0], [-3.0, -4.0]), pairs([-1.0], [-3.0]), beta=0.1)


@pytest.mark.parametrize("beta", [0.0, -0.1])
def test_a_beta_that_is_not_positive_is_refused(beta):
    with pytest.raises(ValueError, match=f"beta must be positive, got {beta}"):
        dpo_loss(pairs([-1.0], [-1.0]), pairs([-1.0], [-1.0]), beta=beta)
