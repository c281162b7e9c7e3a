"""What the tap hands out is what the model attends with, and models it cannot serve are refused."""

import pytest
import torch
import transformers
from transformers import Gemma2Config, Gemma2ForCausalLM

from tiny_models import small_model
from zephyr_lab.losses.attention_kd import attention_map
from zephyr_lab.models.attention import tapping

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def tapped(model, **inputs):
    taps = []
    with torch.no_grad(), tapping(model, taps.append):
        logits = model(input_ids=IDS, use_cache=False, **inputs).logits
    return taps, logits


@pytest.mark.parametrize("window", [None, 3])
def test_queries_and_keys_give_the_maps_of_eager_attention(window):
    model = small_model(window=window)
    taps, logits = tapped(model)
    assert [tap.layer for tap in taps] == list(range(model.config.num_hidden_layers))
    assert all(tap.window == window for tap in taps)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        eager = model(input_ids=IDS, use_cache=False, output_attentions=True)
    assert torch.allclose(logits, eager.logits, atol=1e-5)
    place = torch.arange(IDS.shape[1])
    near = place[:, None] - place[None] < (window or len(place))
    allowed = ((place[None] <= place[:, None]) & near)[None, None]
    for tap, expected in zip(taps, eager.attentions, strict=True):
        assert torch.allclose(attention_map(tap.queries, tap.keys, allowed, scale=tap.scale), expected, atol=1e-5)


def test_the_model_is_as_it_was_afterwards():
    model = small_model()
    before = model.config._attn_implementation
    tapped(model)
    assert model.config._attn_implementation == before
    assert not any(hasattr(module, "attention_listener") for module in model.modules())


def test_dropout_in_attention_is_refused_in_training_alone():
    model = small_model()
    model.config.attention_dropout = 0.1
    tapped(model.eval())
    with pytest.raises(ValueError, match=r"attention_dropout is 0\.1 and the model is in training mode"):
        tapped(model.train())


def test_capped_scores_are_refused_and_the_slow_path_named():
    config = Gemma2Config(
        vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=8, head_dim=4, attn_logit_softcapping=30.0,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"soft-capped attention scores.*attn_implementation='eager'"):
        tapped(Gemma2ForCausalLM(config).eval())


def test_a_model_without_the_interface_is_refused():
    model = small_model()
    model._supports_attention_backend = False
    with pytest.raises(ValueError, match="MistralForCausalLM has no replaceable attention; load it with"):
        tapped(model)


def test_gradient_checkpointing_is_refused_in_training_alone():
    model = small_model()
    model.activation_checkpointing_enable()
    tapped(model.eval())
    with pytest.raises(ValueError, match="would run the layers again with their usual attention"):
        tapped(model.train())


def test_a_window_by_mask_alone_is_refused_before_a_text_is_read():
    sizes = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 60,
        "num_key_value_heads": 2, "num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
    }  # fmt: skip
    model = transformers.Qwen2MoeForCausalLM(
        transformers.Qwen2MoeConfig(**sizes, use_sliding_window=True, sliding_window=6, max_window_layers=1)
    ).eval()
    model.config._attn_implementation = "sdpa"
    with pytest.raises(ValueError, match="Qwen2MoeForCausalLM has a mask that its attention is not told"):
        tapped(model)
