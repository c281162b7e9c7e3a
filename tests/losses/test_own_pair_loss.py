"""A loss of one's own comes into the form of all others, and what it gives back is looked at."""

import math

import pytest
import torch

from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.fast import pair_losses
from zephyr_lab.losses.fast.pair_losses import as_pair_loss
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs


def pairs(chosen, rejected):
    return PairLogProbs(*torch.tensor([chosen, rejected], dtype=torch.float64))


POLICY, REFERENCE = pairs([-3.0, -4.0], [-5.0, -2.0]), pairs([-2.0, -4.5], [-4.0, -3.0])
LENGTHS = PairLengths(torch.tensor([2, 3]), torch.tensor([3, 1]))


def test_two_arguments_are_policy_and_reference_whatever_their_names():
    own = as_pair_loss(lambda p, r: dpo_loss(p, r, beta=0.3))
    assert own.needs_reference
    assert torch.equal(own(POLICY, REFERENCE, LENGTHS), dpo_loss(POLICY, REFERENCE, beta=0.3))


def test_arguments_of_known_names_are_told_by_them():
    # log-prob a token: -3/2 + 5/3 and -4/3 + 2/1
    own = as_pair_loss(lambda lengths, policy: policy.rejected / lengths.rejected - policy.chosen / lengths.chosen)
    assert not own.needs_reference
    assert own(POLICY, None, LENGTHS).tolist() == pytest.approx([-5 / 3 + 3 / 2, -2 + 4 / 3])


def test_an_argument_with_a_default_keeps_it_unless_it_is_one_of_ours():
    def scaled(policy, reference, beta=0.5):
        return dpo_loss(policy, reference, beta=beta)

    assert as_pair_loss(scaled).takes == ("policy", "reference")
    assert torch.equal(
        as_pair_loss(scaled)(POLICY, REFERENCE, LENGTHS), dpo_loss(POLICY, REFERENCE, beta=0.5)
    )  # fmt: skip
    assert as_pair_loss(lambda policy, reference=None: policy.rejected).takes == ("policy", "reference")


def test_our_own_come_through_as_they_are():
    loss = pair_losses.dpo(beta=0.1)
    assert as_pair_loss(loss) is loss
    assert loss(POLICY, POLICY, LENGTHS).tolist() == pytest.approx([math.log(2)] * 2)
    assert [one.needs_reference for one in (loss, pair_losses.ipo(tau=0.1), pair_losses.orpo(weight=0.1))] == [
        True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "problem"),
    [
        (lambda policy, reference: policy.chosen.mean(), r"one loss a pair, shape \(2,\), got shape \(\)"),
        (lambda policy, reference: 0.5, r"shape \(2,\), got float"),
        (lambda policy, reference: policy.chosen * torch.tensor([1.0, math.nan]), "is nan for pair 2 of 2"),
        (lambda policy, reference: policy.chosen / 0.0, "is -inf for pair 1 of 2"),
    ],
)
def test_what_is_no_loss_a_pair_is_refused(loss, problem):
    with pytest.raises(ValueError, match=problem):
        as_pair_loss(loss)(POLICY, REFERENCE, LENGTHS)


def test_a_loss_without_a_gradient_is_refused():
    policy = PairLogProbs(torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True))
    with pytest.raises(ValueError, match="has no gradient to the policy"):
        as_pair_loss(lambda policy, reference: policy.chosen.detach())(policy, policy, LENGTHS)


@pytest.mark.parametrize("loss", [lambda: 0, lambda a, b, c, d: 0, lambda policy, *, weight: 0, 0.1])
def test_a_loss_that_cannot_be_called_on_pairs_is_refused(loss):
    with pytest.raises(TypeError, match=r"write \(policy, reference\)"):
        as_pair_loss(loss)


def test_a_missing_reference_is_refused():
    with pytest.raises(ValueError, match="this loss compares with a reference"):
        pair_losses.ipo(tau=0.1)(POLICY, None, LENGTHS)
