"""The draft's losses, worked by hand and against SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from zephyr_lab.losses.draft import feature_losses, input_noise, padded_mean, soft_cross_entropies, token_mean


def doubles(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_smooth_l1_is_half_the_square_below_1_and_linear_above():
    guessed, true = doubles([0.5, 3.0], [0.0, -1.0]), doubles([0.0, 0.0], [0.0, 0.0])
    # 0.5^2 / 2 and 3 - 1/2, averaged; 0 and 1/2
    assert feature_losses(guessed, true).tolist() == pytest.approx([(0.125 + 2.5) / 2, 0.25])


def test_soft_cross_entropy_is_that_of_scipy():
    generator = np.random.default_rng(0)
    draft, target = generator.normal(size=(2, 4, 5))
    wanted = -(softmax(target, axis=-1) * log_softmax(draft, axis=-1)).sum(axis=-1)
    found = soft_cross_entropies(torch.tensor(draft), torch.tensor(target))
    assert found.tolist() == pytest.approx(wanted.tolist(), rel=1e-12)


def test_its_floor_is_the_targets_entropy():
    target = doubles([1.0, -2.0, 0.5], [0.0, 0.0, 0.0])
    floor = soft_cross_entropies(target.clone(), target)
    assert floor.tolist() == pytest.approx(entropy(softmax(target.numpy(), axis=-1), axis=-1).tolist())
    assert floor[1].item() == pytest.approx(math.log(3))
    assert (soft_cross_entropies(target + doubles([0.1, 0.0, 0.0]), target) > floor).all()


def test_no_gradient_reaches_the_target():
    draft = doubles([0.1, 0.2]).requires_grad_()
    target = doubles([0.3, 0.1]).requires_grad_()
    soft_cross_entropies(draft, target).sum().backward()
    assert target.grad is None
    # d/d draft = softmax(draft) - softmax(target)
    wanted = draft.softmax(dim=-1) - target.softmax(dim=-1)
    torch.testing.assert_close(draft.grad, wanted.detach())


def test_the_two_reductions_differ_by_the_share_of_places_that_count():
    losses = torch.tensor([1.0, 2.0, 6.0])
    assert token_mean(losses).item() == 3.0
    assert padded_mean(losses, rows=2, padded_length=6).item() == pytest.approx(3.0 * 3 / 12)


def test_noise_of_a_row_of_512_tokens_is_a_tenth_at_most_and_shrinks_with_length():
    features = torch.zeros(2, 400, 8)
    noise = input_noise(features, torch.tensor([512, 1024]), width=0.2, generator=torch.Generator().manual_seed(0))
    assert 0.099 < noise[0].abs().max() <= 0.1
    assert 0.0495 < noise[1].abs().max() <= 0.05
    assert noise.mean().abs() < 2e-3
