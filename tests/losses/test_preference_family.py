"""IPO, cDPO, KTO, ORPO and SimPO against algebra; tests/methods/test_trl_loss_twins.py holds them against TRL."""

import math

import pytest
import torch

from zephyr_lab.losses.cdpo import cdpo_loss
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.ipo import ipo_loss
from zephyr_lab.losses.kto import ResponseLogProbs, kto_loss, reference_point
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs, mean_log_probs
from zephyr_lab.losses.orpo import log_odds, odds_ratio_loss, orpo_loss
from zephyr_lab.losses.simpo import simpo_loss


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def pairs(chosen, rejected):
    return PairLogProbs(*torch.tensor([chosen, rejected], dtype=torch.float64))


def lengths(chosen, rejected):
    return PairLengths(torch.tensor(chosen), torch.tensor(rejected))


POLICY, REFERENCE = pairs([-12.0, -5.0], [-40.0, -6.0]), pairs([-20.0, -5.5], [-38.0, -4.0])  # h = 10, h = 2.5
LENGTHS = lengths([4, 2], [8, 3])
EACH = {
    "dpo": lambda policy, reference, sizes: dpo_loss(policy, reference, beta=0.1),
    "ipo": lambda policy, reference, sizes: ipo_loss(policy, reference, tau=0.1),
    "cdpo": lambda policy, reference, sizes: cdpo_loss(policy, reference, beta=0.1, label_smoothing=0.2),
    "orpo": lambda policy, reference, sizes: orpo_loss(policy, sizes, weight=0.1),
    "simpo": lambda policy, reference, sizes: simpo_loss(policy, sizes, beta=2.0, gamma=0.5),
}


# --- IPO ---


def test_ipo_eq_17_worked_by_hand():
    # 1 / (2 tau) = 5 at tau 0.1: (10 - 5)^2 and (2.5 - 5)^2
    assert ipo_loss(POLICY, REFERENCE, tau=0.1).tolist() == pytest.approx([25.0, 6.25])


def test_ipo_is_done_at_a_finite_margin_where_dpo_still_pulls():
    policy = pairs([3.0], [-2.0]), pairs([0.0], [0.0])  # h = 5 = 1 / (2 tau)
    policy[0].chosen.requires_grad_()
    ipo_loss(*policy, tau=0.1).sum().backward()
    assert policy[0].chosen.grad.item() == 0.0
    policy[0].chosen.grad = None
    dpo_loss(*policy, beta=0.1).sum().backward()
    assert policy[0].chosen.grad.item() == pytest.approx(-0.1 / (1 + math.exp(0.5)))


# --- cDPO ---


def test_cdpo_is_the_mean_of_dpo_over_both_orders_of_the_pair():
    turned = PairLogProbs(POLICY.rejected, POLICY.chosen), PairLogProbs(REFERENCE.rejected, REFERENCE.chosen)
    brute = 0.7 * dpo_loss(POLICY, REFERENCE, beta=0.1) + 0.3 * dpo_loss(*turned, beta=0.1)
    torch.testing.assert_close(cdpo_loss(POLICY, REFERENCE, beta=0.1, label_smoothing=0.3), brute)


def test_cdpo_without_doubt_is_dpo():
    ours = cdpo_loss(POLICY, REFERENCE, beta=0.1, label_smoothing=0.0)
    torch.testing.assert_close(ours, dpo_loss(POLICY, REFERENCE, beta=0.1))


def test_cdpo_rests_where_the_chance_to_win_is_that_of_a_true_label():
    margin = math.log(0.8 / 0.2)
    policy = pairs([margin / 0.5], [0.0])
    policy.chosen.requires_grad_()
    cdpo_loss(policy, pairs([0.0], [0.0]), beta=0.5, label_smoothing=0.2).sum().backward()
    assert policy.chosen.grad.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("wrong", [-0.1, 0.5, math.nan])
def test_cdpo_refuses_a_share_that_is_none(wrong):
    with pytest.raises(ValueError, match=f"label_smoothing must be in .0, 0.5., got {wrong}"):
        cdpo_loss(POLICY, REFERENCE, beta=0.1, label_smoothing=wrong)


# --- KTO ---


def test_kto_by_hand():
    # log-ratios 2 and -1, z = 0.5, beta 0.1: values sigmoid(0.15) and, undesirable, sigmoid(0.15)
    responses = ResponseLogProbs(numbers(-3.0, -6.0), numbers(-5.0, -5.0))
    losses = kto_loss(responses, torch.tensor([True, False]), torch.tensor(0.5, dtype=torch.float64), beta=0.1)
    assert losses.tolist() == pytest.approx([1 - 1 / (1 + math.exp(-0.15))] * 2)


def test_kto_at_the_reference_is_half_the_weights():
    responses = ResponseLogProbs(numbers(-3.0, -6.0), numbers(-3.0, -6.0))
    marks = torch.tensor([True, False])
    point = torch.zeros((), dtype=torch.float64)
    losses = kto_loss(responses, marks, point, beta=0.1, desirable_weight=1.0, undesirable_weight=3.0)
    assert losses.tolist() == [0.5, 1.5]


def test_no_gradient_flows_through_kto_s_reference_point():
    policy = numbers(-3.0, -6.0).requires_grad_()
    point = reference_point(ResponseLogProbs(policy, numbers(-4.0, -6.5)))
    assert point.item() == pytest.approx(0.75)
    assert not point.requires_grad
    leak = torch.tensor(0.75, dtype=torch.float64, requires_grad=True)
    kto_loss(
        ResponseLogProbs(policy, numbers(-4.0, -6.5)), torch.tensor([True, False]), leak, beta=0.1
    ).sum().backward()
    assert leak.grad is None
    assert policy.grad[0] < 0 < policy.grad[1]


def test_kto_s_reference_point_is_a_divergence_and_never_negative():
    assert reference_point(ResponseLogProbs(numbers(-9.0), numbers(-1.0))).item() == 0.0


def test_kto_refuses_marks_of_another_shape_and_a_beta_of_none():
    responses, point = ResponseLogProbs(numbers(-3.0, -6.0), numbers(-3.0, -6.0)), torch.zeros((), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"responses \(2,\), desirable \(1,\)"):
        kto_loss(responses, torch.tensor([True]), point, beta=0.1)
    with pytest.raises(ValueError, match=r"beta must be positive, got 0"):
        kto_loss(responses, torch.tensor([True, False]), point, beta=0.0)


# --- ORPO and SimPO, which look at the mean of a token ---


def test_orpo_eq_6_worked_by_hand():
    # token means: log 0.8 and log 0.5, so odds 4 and 1: -log sigmoid(log 4) = log 1.25
    policy = pairs([3 * math.log(0.8)], [2 * math.log(0.5)])
    sizes = lengths([3], [2])
    assert odds_ratio_loss(policy, sizes).item() == pytest.approx(math.log(1.25))
    assert orpo_loss(policy, sizes, weight=0.1).item() == pytest.approx(-math.log(0.8) + 0.1 * math.log(1.25))


def test_orpo_of_weight_0_is_supervised_fine_tuning_on_the_chosen():
    assert orpo_loss(POLICY, LENGTHS, weight=0.0).tolist() == pytest.approx([12 / 4, 5 / 2])


def test_log_odds_keep_their_digits_at_both_ends():
    # log(P / (1 - P)) from whole numbers of P and 1 - P, in Python's own arithmetic
    for tiny in (1e-3, 1e-9, 1e-15):
        at_one, at_zero = log_odds(numbers(math.log1p(-tiny), math.log(tiny))).tolist()
        assert at_one == pytest.approx(math.log1p(-tiny) - math.log(tiny), rel=1e-9)
        assert at_zero == pytest.approx(math.log(tiny) - math.log1p(-tiny), rel=1e-12)


def test_log_odds_have_a_gradient_everywhere_below_certainty():
    # d log odds / d log P = 1 / (1 - P)
    log_prob = numbers(-1e-6, -0.5, -0.7, -800.0).requires_grad_()
    log_odds(log_prob).sum().backward()
    assert log_prob.grad.tolist() == pytest.approx(
        [-1 / math.expm1(-1e-6), *(1 / (1 - math.exp(x)) for x in (-0.5, -0.7)), 1]
    )


def test_log_odds_refuse_a_probability_above_one():
    with pytest.raises(ValueError, match=r"a log-probability must be 0 or less, got 0\.1"):
        log_odds(numbers(-1.0, 0.1))


def test_simpo_eq_6_worked_by_hand():
    # means -3 and -5; 2 * 2 - 0.5 = 3.5; means -2.5 and -2; 2 * -0.5 - 0.5 = -1.5
    losses = simpo_loss(POLICY, LENGTHS, beta=2.0, gamma=0.5)
    assert losses.tolist() == pytest.approx([math.log(1 + math.exp(-3.5)), math.log(1 + math.exp(1.5))])


def test_a_mean_forgets_length_and_a_sum_does_not():
    twice = mean_log_probs(pairs([-24.0, -10.0], [-80.0, -12.0]), lengths([8, 4], [16, 6]))
    once = mean_log_probs(POLICY, LENGTHS)
    torch.testing.assert_close(twice.chosen, once.chosen)
    torch.testing.assert_close(twice.rejected, once.rejected)


def test_lengths_of_nothing_and_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="rejected has a response of 0 tokens"):
        lengths([1, 2], [3, 0])
    with pytest.raises(ValueError, match=r"policy \(2,\), lengths \(1,\)"):
        mean_log_probs(POLICY, lengths([1], [1]))


# --- all of them ---


@pytest.mark.parametrize("loss", EACH.values(), ids=EACH)
def test_each_pair_stands_for_itself(loss):
    def one(both, place):
        return type(both)(both.chosen[place : place + 1], both.rejected[place : place + 1])

    together = loss(POLICY, REFERENCE, LENGTHS)
    for place in range(2):
        assert together[place] == loss(*(one(both, place) for both in (POLICY, REFERENCE, LENGTHS)))[0]


@pytest.mark.parametrize("loss", EACH.values(), ids=EACH)
def test_gradients_are_those_of_finite_differences(loss):
    chosen, rejected = POLICY.chosen.clone().requires_grad_(), POLICY.rejected.clone().requires_grad_()
    function = lambda chosen, rejected: loss(PairLogProbs(chosen, rejected), REFERENCE, LENGTHS)  # noqa: E731
    assert torch.autograd.gradcheck(function, (chosen, rejected))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ipo_loss(POLICY, REFERENCE, tau=0.0), "tau must be positive, got 0"),
        (lambda: cdpo_loss(POLICY, REFERENCE, beta=-1.0, label_smoothing=0.1), "beta must be positive, got -1"),
        (lambda: orpo_loss(POLICY, LENGTHS, weight=-0.1), "weight must be 0 or more, got -0.1"),
        (lambda: simpo_loss(POLICY, LENGTHS, beta=0.0, gamma=0.5), "beta must be positive, got 0"),
        (lambda: simpo_loss(POLICY, LENGTHS, beta=1.0, gamma=-0.5), "gamma must be 0 or more, got -0.5"),
        (lambda: ipo_loss(POLICY, pairs([-1.0], [-2.0]), tau=0.1), r"reference \(1,\)"),
    ],
    ids=["tau", "beta of cDPO", "weight", "beta of SimPO", "gamma", "shape"],
)
def test_a_knob_or_shape_that_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
