"""Which heads may be fused: shown by the model's own logits."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM

from tiny_models import small_model
from zephyr_lab.models.logits import plain_head

SIZES = {
    "vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 8, "head_dim": 4, "max_position_embeddings": 16,
}  # fmt: skip


def test_a_tied_head_is_plain_and_the_models_own():
    model = small_model().train()
    assert plain_head(model) is model.get_output_embeddings() and model.training


def test_a_head_with_a_bias_is_plain():
    model = small_model()
    head = nn.Linear(model.config.hidden_size, model.config.vocab_size, bias=True)
    model.set_output_embeddings(head)
    assert plain_head(model) is head


def test_soft_capping_is_refused_and_the_slow_path_named():
    model = Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=0.5, query_pre_attn_scalar=4))
    model.get_output_embeddings().weight.data.mul_(100)
    with pytest.raises(ValueError, match=r"changes its logits after the head .* use losses.kd instead"):
        plain_head(model)


def test_scaled_logits_are_refused():
    with pytest.raises(ValueError, match="GraniteForCausalLM changes its logits after the head"):
        plain_head(GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=4.0)))


def test_an_adapter_on_the_head_is_refused():
    model = get_peft_model(small_model(), LoraConfig(target_modules=["lm_head"], r=2)).get_base_model()
    with pytest.raises(ValueError, match="merge an adapter into it first"):
        plain_head(model)


def test_half_precision_is_compared_within_its_rounding():
    model = small_model().to(torch.bfloat16)
    assert plain_head(model) is model.get_output_embeddings()
