"""The schedule, Muon with AdamW, and Muon on stacks, which is torch's Muon on each matrix."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from kd_runs import KD, SHAPE
from tiny_models import small_model
from zephyr_lab.methods.optimizers import Schedule, StackMuon, muon_and_adamw, muon_for_stacks
from zephyr_lab.models import mixtral


def test_the_rate_rises_to_the_peak_and_falls_to_its_share():
    shares = [Schedule(steps=101, warmup=4, final=0.1).share(step) for step in range(101)]
    assert shares[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert shares[4] == 1.0
    assert shares[52] == pytest.approx(0.55)  # half-way down the cosine: the mean of 1 and 0.1
    assert shares[100] == pytest.approx(0.1)
    assert all(later < earlier for earlier, later in itertools.pairwise(shares[4:]))


def test_a_single_step_takes_the_peak():
    assert Schedule(steps=1, warmup=0, final=0.0).share(0) == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"warmup": 10}, "warmup must be from 0 to steps - 1 = 9"), ({"final": 1.5}, "final must be a share")],
)
def test_schedules_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**{"steps": 10, "warmup": 0, "final": 0.0, **changes})


def test_muon_gets_the_matrices_of_the_layers_and_adamw_the_rest():
    model = small_model()
    muon, adamw = muon_and_adamw(model, learning_rate=0.01, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    inside = {names[id(parameter)] for group in muon.param_groups for parameter in group["params"]}
    others = {names[id(parameter)] for group in adamw.param_groups for parameter in group["params"]}
    assert len(inside) == 2 * 7 and all(name.endswith("_proj.weight") for name in inside)
    assert others == {
        "model.embed_tokens.weight", "model.norm.weight",
        *(f"model.layers.{n}.{norm}_layernorm.weight" for n in (0, 1) for norm in ("input", "post_attention")),
    }  # fmt: skip


def test_where_matrices_alone_train_there_is_no_adamw():
    model = small_model()
    model.requires_grad_(False)
    model.model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    (only,) = muon_and_adamw(model, learning_rate=0.01, weight_decay=0.1)
    assert isinstance(only, torch.optim.Muon)


def test_muons_step_has_the_size_of_adamws():
    # An orthogonal n x n matrix has root mean square 1 / sqrt(n); scaled by 0.2 sqrt(n) and the rate, 0.2 of the rate.
    # Five Newton-Schulz steps leave the singular values of a well-conditioned gradient between 0.7 and 1.2.
    model = small_model()
    muon, _ = muon_and_adamw(model, learning_rate=0.01, weight_decay=0.0)
    matrix = model.model.layers[0].self_attn.q_proj.weight
    before = matrix.detach().clone()
    matrix.grad = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0))).Q
    muon.step()
    size = (matrix - before).square().mean().sqrt().item()
    assert 0.7 < size / (0.2 * 0.01) < 1.2


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
