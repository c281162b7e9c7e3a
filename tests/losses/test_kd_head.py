"""The fused heads: values and gradients of `losses.kd` on whole logits, in tiles of any size, and what they refuse."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from zephyr_lab.losses import kd
from zephyr_lab.losses.fast import kd_head
from zephyr_lab.losses.fast.kd_head import LinearHead, kd_head_losses


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case:
    """Hidden states and heads of both models, tokens with ids and shares."""

    def __init__(self, seed=0, tokens=5, entries=7, hidden=3, teacher_hidden=4, bias=True):
        self.hidden = random(seed, tokens, hidden).requires_grad_()
        weight, own_bias = (
            random(seed + 1, entries, hidden).requires_grad_(),
            random(seed + 2, entries).requires_grad_(),
        )
        self.head = LinearHead(weight, own_bias if bias else None)
        self.teacher_hidden = random(seed + 3, tokens, teacher_hidden)
        self.teacher_head = LinearHead(random(seed + 4, entries, teacher_hidden), random(seed + 5, entries))
        generator = torch.Generator().manual_seed(seed + 6)
        self.next_ids = torch.randint(entries, (tokens,), generator=generator)
        self.shares = random(seed + 7, tokens).abs()
        self.learned = [self.hidden, weight, *([own_bias] if bias else [])]

    def logits(self):
        own, theirs = self.hidden @ self.head.weight.t(), self.teacher_hidden @ self.teacher_head.weight.t()
        return own + (0 if self.head.bias is None else self.head.bias), theirs + self.teacher_head.bias

    def losses(self, prediction_weight, ce_weight, temperature):
        return kd_head_losses(
            self.hidden, self.head, teacher_hidden=self.teacher_hidden, teacher_head=self.teacher_head,
            next_ids=self.next_ids, shares=self.shares, prediction_weight=prediction_weight, ce_weight=ce_weight,
            temperature=temperature,
        )  # fmt: skip

    def plain(self, prediction_weight, ce_weight, temperature):
        own, theirs = self.logits()
        divergence = kd.forward_kl(own[None], theirs[None], temperature=temperature)[0] @ self.shares
        entropy = cross_entropy(own, self.next_ids, reduction="none") @ self.shares
        return prediction_weight * divergence + ce_weight * entropy, divergence, entropy


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), tokens=st.integers(0, 9), entries=st.integers(2, 9), bias=st.booleans(),
    kd_weight=st.sampled_from([0.0, 0.3, 1.0]), temperature=st.sampled_from([0.5, 1.0, 2.5]),
    tile=st.sampled_from([1, 20, 10_000]),
)  # fmt: skip
def test_value_and_gradients_are_those_of_whole_logits(seed, tokens, entries, bias, kd_weight, temperature, tile):
    case = Case(seed, tokens=tokens, entries=entries, bias=bias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kd_head, "CPU_TILE", tile)
        patch.setattr(kd_head, "CPU_BLOCK", tile // 2)
        patch.setattr(kd_head, "CPU_ENTRIES", 4)
        found = case.losses(kd_weight, 1 - kd_weight, temperature)
    expected = case.plain(kd_weight, 1 - kd_weight, temperature)
    assert torch.allclose(torch.stack(found[:3]), torch.stack(expected), atol=1e-12)
    ours = torch.autograd.grad(found.loss, case.learned)
    theirs = torch.autograd.grad(expected[0], case.learned, allow_unused=True)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-12)


def test_a_factor_on_the_loss_reaches_the_gradients_and_a_second_backward_is_refused():
    case = Case()
    expected = torch.autograd.grad(3 * case.plain(1.0, 0.0, 1.0)[0], case.learned)
    found = 3 * case.losses(1.0, 0.0, 1.0).loss
    found.backward(retain_graph=True)
    for parameter, gradient in zip(case.learned, expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-12)
    with pytest.raises(RuntimeError, match="spent by one backward"):
        found.backward()


def test_a_tied_head_gets_the_gradients_of_both_its_uses():
    case = Case(bias=False)
    embedding = case.head.weight
    for loss_of in (case.losses, case.plain):
        case.hidden = embedding[case.next_ids]
        loss_of(1.0, 0.5, 1.0)[0].backward()
    assert embedding.grad is not None  # two passes summed: twice either
    twice = embedding.grad.clone()
    embedding.grad = None
    case.hidden = embedding[case.next_ids]
    case.plain(1.0, 0.5, 1.0)[0].backward()
    assert torch.allclose(twice, 2 * embedding.grad, atol=1e-12)


def test_the_gradient_reaches_the_student_only():
    case = Case()
    case.teacher_hidden.requires_grad_()
    case.teacher_head.weight.requires_grad_()
    case.losses(1.0, 0.0, 1.0).loss.backward()
    assert case.teacher_hidden.grad is None and case.teacher_head.weight.grad is None


def test_half_precision_is_within_its_rounding():
    case = Case(tokens=30)
    expected = torch.autograd.grad(case.plain(0.5, 0.5, 1.0)[0], case.learned)
    low = [tensor.detach().bfloat16().requires_grad_() for tensor in case.learned]
    found = kd_head_losses(
        low[0], LinearHead(low[1], low[2]), teacher_hidden=case.teacher_hidden.bfloat16(),
        teacher_head=case.teacher_head.detached(torch.bfloat16), next_ids=case.next_ids, shares=case.shares,
        prediction_weight=0.5, ce_weight=0.5, temperature=1.0,
    )  # fmt: skip
    found.loss.backward()
    assert found.loss.dtype == torch.float32
    for tensor, gradient in zip(low, expected, strict=True):
        assert tensor.grad.dtype == torch.bfloat16
        assert (tensor.grad.double() - gradient).abs().max() < 0.05 * gradient.abs().max()


def test_under_autocast_the_loss_is_that_without():
    case = Case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = case.losses(1.0, 0.0, 1.0).loss
    assert found.item() == pytest.approx(case.plain(1.0, 0.0, 1.0)[0].item())


def test_float16_is_refused():
    case = Case()
    case.hidden = case.hidden.half()
    with pytest.raises(ValueError, match=r"float16 gradients need a scaled loss.*use bfloat16"):
        case.losses(1.0, 0.0, 1.0)


def test_the_two_means_are_those_of_whole_scores():
    counted = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    scores = random(3, 3, 4)
    for shares, mean in (
        (kd_head.mean_of_tokens, kd.mean_of_tokens),
        (kd_head.mean_of_sequences, kd.mean_of_sequences),
    ):
        assert (scores[counted] * shares(counted)).sum().item() == pytest.approx(mean(scores, counted).item())


@pytest.mark.parametrize("changes, message", [
    ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
    ({"next_ids": None, "ce_weight": 0.5}, "ce_weight is 0.5, and there are no next_ids"),
    ({"next_ids": torch.tensor([0, 1, 2, 3, -100])}, r"next_ids must be from 0 to 6, got -100 to 3; select the tokens"),
    ({"teacher_hidden": random(0, 4, 4)}, "tokens differ: student 5, teacher 4"),
    ({"teacher_head": LinearHead(random(0, 8, 4))}, "vocabularies differ: student 7 entries, teacher 8"),
    ({"teacher_head": LinearHead(random(0, 7, 2))}, "teacher_hidden has 4 features, its head takes 2"),
    ({"head": LinearHead(random(0, 7, 2))}, "hidden has 3 features, the head takes 2"),
    ({"shares": random(0, 5).requires_grad_()}, "shares must be plain numbers"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(changes, message):
    case = Case()
    arguments = {
        "hidden": case.hidden, "head": case.head, "teacher_hidden": case.teacher_hidden,
        "teacher_head": case.teacher_head, "next_ids": case.next_ids, "shares": case.shares, "prediction_weight": 1.0,
        "ce_weight": 0.0, "temperature": 1.0,
    } | changes  # fmt: skip
    with pytest.raises(ValueError, match=message):
        kd_head_losses(arguments.pop("hidden"), arguments.pop("head"), **arguments)


def test_both_losses_have_shares_of_their_own_and_either_direction():
    case = Case(tokens=6)
    ce_shares = random(20, 6).abs()
    for divergence, whole in ((kd_head.forward_kl, kd.forward_kl), (kd_head.reverse_kl, kd.reverse_kl)):
        found = kd_head_losses(
            case.hidden, case.head, teacher_hidden=case.teacher_hidden, teacher_head=case.teacher_head,
            next_ids=case.next_ids, shares=case.shares, ce_shares=ce_shares, prediction_weight=0.7, ce_weight=0.4,
            temperature=1.5, divergence=divergence,
        )  # fmt: skip
        own, theirs = case.logits()
        scores = whole(own[None], theirs[None], temperature=1.5)[0]
        entropy = cross_entropy(own, case.next_ids, reduction="none")
        expected = 0.7 * scores @ case.shares + 0.4 * entropy @ ce_shares
        assert found.loss.item() == pytest.approx(expected.item(), abs=1e-12)
        assert torch.allclose(found.scores, torch.stack([scores, entropy]), atol=1e-12)
        ours, plain = (torch.autograd.grad(loss, case.learned) for loss in (found.loss, expected))
        for mine, other in zip(ours, plain, strict=True):
            assert torch.allclose(mine, other, atol=1e-12)


def test_a_loss_that_is_only_told_costs_no_gradient_be_it_no_number():
    case = Case()
    case.teacher_hidden = torch.full_like(case.teacher_hidden, float("nan"))
    found = case.losses(0.0, 1.0, 1.0)
    assert found.prediction.isnan() and found.loss.item() == found.cross_entropy.item()
    assert all(one.isfinite().all() for one in torch.autograd.grad(found.loss, case.learned))
    assert not case.losses(0.0, 0.0, 1.0).loss.requires_grad
