"""The opponents' formulas are the papers' losses, and the floor counts the products that a model has."""

import pytest
import torch
from torch import nn

from benchmarks import models, naive_kd
from benchmarks.draft_score import pair
from zephyr_lab.losses import kd
from zephyr_lab.losses.attention_kd import attention_kl, attention_map, attention_scores


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


COUNTED = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 0]], dtype=torch.bool)


def test_the_naive_prediction_loss_is_eq_2_averaged_over_tokens():
    own, theirs = random(0, 2, 4, 5), random(1, 2, 4, 5)
    expected = kd.mean_of_tokens(kd.forward_kl(own, theirs, temperature=1.0), COUNTED)
    assert naive_kd.head_loss(own, theirs, COUNTED).item() == pytest.approx(expected.item())


def test_the_naive_attention_loss_is_eq_4_averaged_over_layers_heads_and_tokens():
    allowed = torch.ones(4, 4, dtype=torch.bool).tril()[None, None]
    maps = [[attention_map(random(s, 2, 3, 4, 2), random(s + 1, 2, 3, 4, 2), allowed, scale=1.0)] * 2 for s in (0, 5)]
    layers = [attention_kl(own, theirs, allowed) for own, theirs in zip(*maps, strict=True)]
    expected = kd.mean_of_tokens(attention_scores(layers), COUNTED)
    assert naive_kd.attention_loss(*maps, COUNTED).item() == pytest.approx(expected.item())


def test_labels_keep_answers_alone():
    assert naive_kd.labels(torch.tensor([[7, 8]]), torch.tensor([[False, True]])).tolist() == [[-100, 8]]


def test_the_floor_counts_every_linear_layer():
    model = models.mistral(0, entries=32, layers=2)
    weights = sum(one.weight.numel() for one in model.model.modules() if isinstance(one, nn.Linear))
    products = models.layer_products(10, layers=2, trained=False)
    assert sum(m * k * n for m, k, n in products) == 10 * weights
    trained = models.layer_products(10, layers=2, trained=True)
    assert sum(m * k * n for m, k, n in trained) == 3 * 10 * weights
    assert models.head_products(10, 32, trained=False) == [(10, models.HIDDEN, 32)]


def test_a_draft_is_the_targets_first_layer():
    target, draft = pair()
    assert len(draft.model.layers) == 1
    assert torch.equal(draft.model.layers[0].mlp.up_proj.weight, target.model.layers[0].mlp.up_proj.weight)
    assert torch.equal(draft.lm_head.weight, target.lm_head.weight)
