import itertools

import pytest
import torch

from tiny_models import small_model
from zephyr_lab.methods.optimizers import Schedule, muon_and_adamw


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
