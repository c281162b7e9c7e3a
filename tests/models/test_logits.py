"""Logits made of hidden states are the model's own, whatever a family does before or after its output embedding."""

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from model_families import all_models, family_model
from tiny_models import small_model
from zephyr_lab.models.causal import accepted
from zephyr_lab.models.logits import body_of, last_hidden_states, logits_of, plain_head

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 11, 3, 4]])
# scaled, capped or put through layers of its own; and OPT, whose body the forward pass goes around
FAMILIES = ["granite", "cohere", "gemma2", "gemma3_text", "falcon_h1", "bert", "electra", "opt", "mistral", "mamba"]


def whole(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=ids, **accepted(model, use_cache=False)).logits


def off(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_whole_forward_pass(family):
    model = family_model(family)
    with torch.no_grad():
        hidden = last_hidden_states(model, input_ids=IDS)
        assert off(logits_of(model, hidden), whole(model)) < 1e-5
        assert off(logits_of(model, hidden[1, 2:4]), whole(model)[1, 2:4]) < 1e-5  # at any places
        assert logits_of(model, hidden[:, 0]).shape == (2, whole(model).shape[-1])


@pytest.mark.parametrize("family", ["granite", "cohere", "gemma2", "gemma3_text", "falcon_h1", "bert"])
def test_the_head_alone_would_be_wrong_here(family):
    model = family_model(family)
    with torch.no_grad():
        assert off(model.get_output_embeddings()(last_hidden_states(model, input_ids=IDS)), whole(model)) > 0.1
    with pytest.raises(ValueError, match=r"ForCausalLM changes|LMHeadModel changes"):
        plain_head(model)


@pytest.mark.slow
def test_every_family_is_exact_or_refused_by_name():
    exact, plain = [], []
    for family, model in all_models():
        try:
            with torch.no_grad():
                found = logits_of(model, last_hidden_states(model, input_ids=IDS))
        except ValueError as error:
            assert f"the logits of {type(model).__name__} do not follow" in str(error)
            continue
        assert off(found, whole(model)) < 1e-4, family
        exact.append(family)
        try:
            head = plain_head(model)
        except ValueError as error:
            assert type(model).__name__ in str(error)
            continue
        with torch.no_grad():
            assert off(head(last_hidden_states(model, input_ids=IDS)), whole(model)) < 1e-4, family
        plain.append(family)
    assert len(exact) > 100 and len(plain) > 80  # what could not be built would prove nothing
    assert {*FAMILIES, "mixtral", "llama", "qwen3", "gpt2"} <= set(exact)


@pytest.mark.parametrize("family", ["granite", "gemma2"])
def test_gradients_are_those_of_the_whole_forward_pass(family):
    model = family_model(family)
    logits_of(model, last_hidden_states(model, input_ids=IDS)).square().sum().backward()
    found = [one.grad.clone() for one in model.parameters() if one.grad is not None]
    model.zero_grad()
    model(input_ids=IDS, use_cache=False).logits.square().sum().backward()
    expected = [one.grad for one in model.parameters() if one.grad is not None]
    assert len(found) == len(expected) > 10
    assert all((ours - own).abs().max() <= 1e-4 * own.abs().max() for ours, own in zip(found, expected, strict=True))


def test_a_plain_head_gives_the_same_bits():
    model, hidden = small_model(), torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(0))
    head = model.get_output_embeddings()
    for states in (hidden, hidden[:, -1], hidden[0, :4], hidden[0, :0]):
        assert torch.equal(logits_of(model, states), head(states))


def test_trying_a_model_changes_neither_its_modes_nor_the_random_numbers():
    model = small_model().train()
    model.model.layers[0].eval()
    before = torch.random.get_rng_state()
    body_of(model)
    plain_head(model)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training and not model.model.layers[0].training and model.model.layers[1].training
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_setting_changed_afterwards_counts():
    model = family_model("granite")
    with torch.no_grad():
        hidden = last_hidden_states(model, input_ids=IDS)
        before = logits_of(model, hidden)
        model.config.logits_scaling = 8.0
        assert off(logits_of(model, hidden), before / 2) < 1e-6


def test_a_soft_cap_shows_even_where_all_logits_are_small():
    model = family_model("gemma2", final_logit_softcapping=30.0)
    model.get_output_embeddings().weight.data.mul_(1e-3)
    assert whole(model).abs().max() < 0.1  # where tanh is the identity to rounding
    with pytest.raises(ValueError, match="changes its logits after the head"):
        plain_head(model)


def test_adapters_are_part_of_the_model():
    plain = small_model()
    for targets in (["q_proj", "v_proj"], ["q_proj", "lm_head"]):
        model = get_peft_model(small_model(), LoraConfig(target_modules=targets, r=2, init_lora_weights=False))
        with torch.no_grad():
            assert off(logits_of(model, last_hidden_states(model, input_ids=IDS)), whole(model)) < 1e-5
        assert off(whole(model), whole(plain)) > 1e-3


def test_prompt_learning_is_refused_by_name():
    model = get_peft_model(small_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ValueError, match=r"puts tokens of its own before every row \(prompt learning\)"):
        last_hidden_states(model, input_ids=IDS)


class CopyingLlama(LlamaForCausalLM):
    """Its logits hang on the ids too."""

    def forward(self, input_ids, **inputs):
        output = super().forward(input_ids=input_ids, **inputs)
        output.logits = output.logits + torch.nn.functional.one_hot(input_ids, output.logits.shape[-1])
        return output


def test_logits_that_hang_on_more_are_refused():
    config = LlamaConfig(
        vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"logits of CopyingLlama do not follow from its last hidden states alone"):
        logits_of(CopyingLlama(config), torch.zeros(1, 8))


def test_what_is_no_transformers_model_is_refused():
    with pytest.raises(ValueError, match="Linear holds no transformers model"):
        logits_of(torch.nn.Linear(2, 2), torch.zeros(1, 2))
