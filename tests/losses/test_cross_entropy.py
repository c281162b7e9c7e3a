import math

import pytest
import torch

from zephyr_lab.losses.cross_entropy import next_token_losses


def test_even_odds_cost_ln_of_the_choices():
    losses = next_token_losses(torch.zeros(2, 4, 7, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.long))
    assert losses.shape == (2, 3)
    assert losses.flatten().tolist() == pytest.approx([math.log(7)] * 6)


def test_worked_by_hand():
    # logits (0, ln 3) give 1/4 and 3/4; (ln 2, 0) give 2/3 and 1/3; the last position predicts nothing
    logits = torch.tensor([[[0.0, math.log(3)], [math.log(2), 0.0], [99.0, -99.0]]], dtype=torch.float64)
    losses = next_token_losses(logits, torch.tensor([[0, 1, 1]]))
    assert losses[0].tolist() == pytest.approx([-math.log(3 / 4), -math.log(1 / 3)])


def test_the_last_logits_get_no_gradient():
    logits = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    next_token_losses(logits, torch.tensor([[0, 1, 2], [3, 4, 0]])).sum().backward()
    assert torch.equal(logits.grad[:, -1], torch.zeros(2, 5, dtype=torch.float64))
    assert (logits.grad[:, :-1] != 0).all()
