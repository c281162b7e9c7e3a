"""A model is fed in steps only where that gives the logits of its whole forward passes."""

import pytest
import torch

import model_matrix as matrix
from model_families import small_model
from zephyr_lab.decoding.cached_steps import CausalSteps, attention_window
from zephyr_lab.decoding.drafting import Chain
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.decoding.speculative import speculate

SETTINGS = {"max_new_tokens": 4, "verify": "greedy", "temperature": 0.0, "generator": None}


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("bart", "on a trial its logits in steps were .* off"),  # counts positions by its cache, padding included
        ("bamba", "IndexError"),  # keeps a state, of which no column can be dropped
        ("bert", None),  # whose head has layers of its own
        ("mistral", None),
        ("opt", None),
    ],
)
def test_steps_that_differ_from_whole_passes_are_refused_by_name(family, reason):
    model = small_model(family, attention="sdpa")
    if reason is None:
        CausalSteps(model, 1)
        assert matrix.cell(family, "speculation").state == matrix.EXACT
        return
    with pytest.raises(ValueError, match=rf"^{type(model).__name__} cannot be fed in steps: {reason}"):
        CausalSteps(model, 1)
    with pytest.raises(ValueError, match="cannot be fed in steps"):  # and again: a refusal is not forgotten
        speculate(model, model, Chain(2), [[5, 6, 7]], **SETTINGS)


def test_the_trial_draws_no_random_numbers_and_leaves_the_model_as_it_was():
    model = small_model("mistral")
    model.model.layers[0].eval()
    before, modes = torch.get_rng_state(), [module.training for module in model.modules()]
    CausalSteps(model, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("family", ["llama, dynamic RoPE", "phi3, longrope"])
def test_rotary_embeddings_that_turn_on_the_way_are_refused_before_a_token(family):
    model = small_model(family, max_position_embeddings=64)
    with pytest.raises(ValueError, match="rotary embeddings change for all texts of a row once one reaches"):
        speculate(model, model, Chain(2), [[5] * 61], **{**SETTINGS, "max_new_tokens": 3})


def test_a_long_prompt_turns_no_other_prompt_s_rotary_embeddings():
    model = small_model("phi3, longrope")  # turns at 8 tokens
    prompts = [[5, 6], [7] * 20]
    together = sample(model, prompts, max_new_tokens=4, temperatures=0.0, generator=None)
    alone = [sample(model, [prompt], max_new_tokens=4, temperatures=0.0, generator=None)[0] for prompt in prompts]
    assert together == alone


def test_the_window_of_a_model_with_parts_is_its_text_s():
    with pytest.raises(ValueError, match="layers of several kinds"):
        attention_window(small_model("gemma3"))
