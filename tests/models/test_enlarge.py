"""A target enlarged by layers that add nothing says what it said, at the cost of a larger one."""

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from tiny_drafts import little_target
from tiny_models import small_model
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.models.attention import listening
from zephyr_lab.models.enlarge import enlarge, of_layers


def test_outputs_are_equal_and_the_original_is_as_before():
    model = small_model(seed=1)
    ids = torch.randint(262, 600, (3, 30), generator=torch.Generator().manual_seed(0))
    larger = enlarge(model, layers=5)
    with torch.inference_mode():
        torch.testing.assert_close(larger(input_ids=ids).logits, model(input_ids=ids).logits, rtol=0, atol=1e-5)
    assert (len(larger.base_model.layers), larger.config.num_hidden_layers) == (7, 7)
    assert (len(model.base_model.layers), model.config.num_hidden_layers) == (2, 2)


def test_answers_with_a_cache_are_equal():
    model = little_target()
    prompts = [[3, 4], [5, 3, 4, 5]]
    answers = [
        sample(one, prompts, max_new_tokens=12, temperatures=0.0, generator=None)
        for one in (model, enlarge(model, layers=3))
    ]
    assert answers[0] == answers[1]


def test_added_layers_compute_like_any_other():
    larger = enlarge(little_target(), layers=2)
    added = larger.base_model.layers[-1]
    assert added.self_attn.layer_idx == 3
    assert added.self_attn.o_proj.weight.abs().max() == added.mlp.down_proj.weight.abs().max() == 0
    assert added.mlp.up_proj.weight.abs().max() > 0


def test_a_trained_models_wrapped_forward_is_left_behind():
    # trainers wrap a model's forward in the instance; a copy would run the original's weights
    model = little_target()
    model.forward = model.forward
    assert "forward" not in enlarge(model, layers=1).__dict__


def test_what_cannot_be_enlarged_is_named():
    with pytest.raises(ValueError, match="layers must not be negative, got -1"):
        enlarge(little_target(), layers=-1)
    other = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=5))
    other.base_model.layers = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(ValueError, match=r"Linear has no self_attn\.o_proj"):
        enlarge(other, layers=1)


@pytest.mark.parametrize("make", [lambda model: enlarge(model, layers=1), lambda model: of_layers(model, [1, 0])])
def test_attention_is_replaced_in_every_layer_of_what_is_made(make):
    made, seen = make(small_model()), []
    with listening(made, seen.append), torch.no_grad():
        made(input_ids=torch.arange(6, 12)[None])
    assert [one.layer for one in seen] == list(range(made.config.num_hidden_layers))


def test_a_model_of_some_layers_is_these_in_their_order_and_the_whole_one_is_as_before():
    model = small_model(layers=4)
    before, ids = {name: one.clone() for name, one in model.named_parameters()}, torch.arange(6, 16)[None]
    smaller = of_layers(model, range(1, 4, 2))
    assert (len(smaller.base_model.layers), smaller.config.num_hidden_layers) == (2, 2)
    with torch.no_grad():
        found = smaller(input_ids=ids).logits
        for place in (0, 2):  # layers that add nothing are as good as left out
            for output in (
                model.base_model.layers[place].self_attn.o_proj,
                model.base_model.layers[place].mlp.down_proj,
            ):
                output.weight.zero_()
        assert torch.allclose(found, model(input_ids=ids).logits, atol=1e-5)
    assert torch.equal(smaller.base_model.layers[1].mlp.up_proj.weight, before["model.layers.3.mlp.up_proj.weight"])
    answers = sample(smaller, [[7, 8, 9]], max_new_tokens=5, temperatures=0.0, generator=None)
    assert len(answers[0].ids) > 0  # with its cache
    for wrong in ([], [4], [-1, 0], [1, 1]):
        with pytest.raises(ValueError, match=r"^layers must be some of 0 to 3, each once, got "):
            of_layers(model, wrong)
