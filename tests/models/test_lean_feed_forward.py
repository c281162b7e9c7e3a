"""Lean blocks give the model's own results and gradients, and keep less."""

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from tiny_models import small_model
from zephyr_lab.models.lean_feed_forward import lean_feed_forward

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def gradients(model, loss):
    return torch.autograd.grad(loss, [one for one in model.parameters() if one.requires_grad])


def loss_of(model):
    return model(input_ids=IDS, labels=IDS, use_cache=False).loss


def kept_numbers(model):
    """Distinct numbers that a forward pass keeps for its backward pass."""
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.setdefault(one.data_ptr(), one), lambda one: one):
        loss_of(model)
    return sum(one.numel() for one in kept.values())


def test_results_and_gradients_are_the_models_own():
    model = small_model()
    expected = loss_of(model)
    with lean_feed_forward(model):
        found = loss_of(model)
    assert torch.allclose(found, expected, rtol=1e-6)
    for ours, theirs in zip(gradients(model, found), gradients(model, expected), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_half_of_the_widest_tensors_is_not_kept():
    model = small_model()
    config = model.config
    usual = kept_numbers(model)
    with lean_feed_forward(model):
        lean = kept_numbers(model)
    assert usual - lean == 2 * IDS.numel() * config.intermediate_size * config.num_hidden_layers


def test_blocks_with_adapters_and_frozen_weights_stay_right():
    model = get_peft_model(small_model(), LoraConfig(target_modules=["gate_proj"], r=2)).get_base_model()
    expected = gradients(model, loss_of(model))
    with lean_feed_forward(model):
        found = gradients(model, loss_of(model))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    frozen = small_model()
    for layer in frozen.model.layers:
        layer.mlp.down_proj.weight.requires_grad_(False)
    expected = gradients(frozen, loss_of(frozen))
    with lean_feed_forward(frozen):
        found = gradients(frozen, loss_of(frozen))
    assert all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(found, expected, strict=True))


def test_under_autocast_the_model_is_as_it_is():
    model = small_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = gradients(model, loss_of(model))
        with lean_feed_forward(model):
            found = gradients(model, loss_of(model))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_the_model_is_as_it_was_afterwards():
    model = small_model()
    with lean_feed_forward(model):
        pass
    assert not any("forward" in vars(module) for module in model.modules())


class Limited(LlamaMLP):
    """Parts of Llama's names, put together in another way: as some families have it, with a limit and a factor."""

    def forward(self, hidden):
        return 0.5 * self.down_proj(self.act_fn(self.gate_proj(hidden)).clamp(max=0.1) * self.up_proj(hidden))


def test_a_block_with_another_formula_stays_as_it_is():
    block = Limited(LlamaConfig(hidden_size=8, intermediate_size=12, num_attention_heads=2))
    hidden = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    expected = block(hidden)
    with lean_feed_forward(nn.Sequential(block)):
        assert torch.equal(block(hidden), expected)
        assert "forward" not in vars(block)
