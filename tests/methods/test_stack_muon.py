"""Muon on a stack of matrices is torch's Muon on each of them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from kd_runs import KD, SHAPE
from tiny_models import small_model
from zephyr_lab.methods.optimizers import StackMuon, muon_for_stacks
from zephyr_lab.models import mixtral


@pytest.mark.parametrize("shape", [(3, 4, 6), (2, 6, 4)])
def test_each_matrix_moves_as_torchs_muon_moves_it(shape):
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    stack = nn.Parameter(start.clone())
    alone = [nn.Parameter(matrix.clone()) for matrix in start]
    ours = StackMuon([stack], lr=0.1, momentum=0.95, weight_decay=0.01)
    theirs = torch.optim.Muon(alone, lr=0.1, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(step + 1))
        stack.grad = gradient.clone()
        for matrix, part in zip(alone, gradient, strict=True):
            matrix.grad = part.clone()
        ours.step()
        theirs.step()
    # Newton-Schulz runs in bfloat16: equal to its rounding.
    assert torch.allclose(stack.detach(), torch.stack([matrix.detach() for matrix in alone]), atol=2e-3)
    assert not torch.allclose(stack.detach(), start, atol=1e-2)


def test_matrices_that_lie_on_one_another_are_updated_apart():
    start = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    whole = nn.Parameter(start.clone())
    whole.grad = gradient.clone()
    StackMuon([{"params": [whole], "pieces": 2}], lr=0.1, momentum=0.95, weight_decay=0.0).step()
    for half in (slice(0, 3), slice(3, 6)):
        part = nn.Parameter(start[:, half].clone())
        part.grad = gradient[:, half].clone()
        StackMuon([part], lr=0.1, momentum=0.95, weight_decay=0.0).step()
        assert torch.allclose(whole[:, half], part, atol=1e-6)


def test_every_weight_of_a_mixture_has_exactly_one_optimiser():
    mixture = mixtral.upcycle(small_model(0, **SHAPE), experts=2, top=2, noise=0.0, router_sd=0.1, seed=0)
    joined = muon_for_stacks(replace(KD, optimizer="muon"), mixture)
    held = [id(weight) for part in joined.parts for group in part.param_groups for weight in group["params"]]
    assert sorted(held) == sorted(id(weight) for weight in mixture.parameters())
    pieces = {group["pieces"] for group in joined.parts[2].param_groups}
    assert pieces == {1, 2} and len(joined.parts[2].param_groups) == 4
    assert muon_for_stacks(KD, mixture) is None  # AdamW is the trainer's own
