"""Models of other families: exact by packed pairs, or refused by name before a number is wrong."""

import random

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from packed_models import SIZES, packed_model, plain_log_probs, random_pairs
from zephyr_lab.losses.fast import shared_prompt
from zephyr_lab.losses.fast.pair_packing import pack

WINDOW = 100  # wider than the trial of a model without one
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "moe_intermediate_size": 24, "num_experts_per_tok": 2}
QUIET = {"router_jitter_noise": 0.0, "input_jitter_noise": 0.0}


def model_of(family: str, **changes):
    """A random model in training mode whose weights are large enough for small faults to show."""
    sizes = {**SIZES, "max_position_embeddings": 1024, "hidden_size": 32, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(
            getattr(transformers, f"{family}Config")(**sizes), dtype=torch.float32
        ).train()


def long_pairs(tokens: int = 70):
    """Pairs whose texts cross `WINDOW`."""
    drawn = random.Random(0)
    return [tuple([drawn.randrange(40) for _ in range(tokens)] for _ in range(3)) for _ in range(2)]


def assert_exact(model, pairs):
    with torch.no_grad():
        found = shared_prompt.pair_log_probs(model, pack(pairs))
        expected = plain_log_probs(model, pairs)
    torch.testing.assert_close(found.chosen, expected.chosen, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.rejected, expected.rejected, rtol=1e-4, atol=1e-4)


def assert_refused(model, pattern, pairs=None):
    with pytest.raises(ValueError, match=pattern):
        shared_prompt.pair_log_probs(model, pack(pairs or random_pairs(0)))


# --- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family, changes",
    [
        ("Mistral", {"sliding_window": WINDOW}),
        ("Mixtral", {"sliding_window": WINDOW, **EXPERTS}),
        ("Qwen2", {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1}),
        ("Starcoder2", {"sliding_window": WINDOW, "residual_dropout": 0.0, "embedding_dropout": 0.0}),
        ("Phi3", {"sliding_window": WINDOW}),
    ],
)
def test_a_window_that_the_attention_is_told_is_exact(family, changes):
    assert_exact(model_of(family, **changes), long_pairs())


@pytest.mark.parametrize(
    "family, changes, reason",
    [
        (
            "Qwen2Moe",
            {"use_sliding_window": True, "max_window_layers": 1, "shared_expert_intermediate_size": 24, **EXPERTS},
            f"Qwen2MoeAttention has a sliding window of {WINDOW} by its mask alone",
        ),
        ("Phimoe", {**EXPERTS, **QUIET}, f"PhimoeAttention has a sliding window of {WINDOW} by its mask alone"),
        ("Doge", {}, "DogeAttention has a mask of its own making"),
    ],
)
def test_a_window_by_mask_alone_is_refused_however_wide(family, changes, reason):
    assert_refused(model_of(family, sliding_window=WINDOW, **changes), reason)


def test_chunked_attention_is_refused_also_where_the_config_does_not_list_its_layers():
    model = packed_model("llama")
    model.config.attention_chunk_size = 8
    create = transformers.models.llama.modeling_llama.create_causal_mask
    try:
        transformers.models.llama.modeling_llama.create_causal_mask = (
            transformers.masking_utils.create_chunked_causal_mask
        )
        assert_refused(model, "LlamaAttention has a mask that is neither causal nor a sliding window")
    finally:
        transformers.models.llama.modeling_llama.create_causal_mask = create


# --- random numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family, changes, cause",
    [
        ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}, r"dropout = 0\.1"),
        ("SeedOss", {"head_dim": 8, "residual_dropout": 0.1, "attention_dropout": 0.0}, r"residual_dropout = 0\.1"),
        ("Mixtral", {"router_jitter_noise": 0.1, **EXPERTS}, r"router_jitter_noise = 0\.1"),
        ("Phimoe", {"sliding_window": None, **EXPERTS}, r"router_jitter_noise = 0\.01"),
    ],
)
def test_noise_in_training_is_refused_with_the_setting_behind_it(family, changes, cause):
    model = model_of(family, **changes)
    for seed in range(3):  # a router's noise changes the choice of few tokens; it is refused all the same
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        assert_refused(model, rf"read twice in training mode is not the same.*{cause}")
        assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def test_a_layer_that_draws_and_never_uses_it_is_no_noise():
    model = model_of("OPT", ffn_dim=48, word_embed_proj_dim=32, dropout=0.0)  # its layerdrop of 0 draws all the same
    state = torch.get_rng_state()
    shared_prompt.pair_log_probs(model, pack(random_pairs(0)))
    drawn = torch.get_rng_state()
    torch.set_rng_state(state)
    shared_prompt.pair_log_probs(model, pack(random_pairs(0)))  # without a trial
    assert torch.equal(torch.get_rng_state(), drawn)


def test_noise_is_nothing_out_of_training():
    model = model_of("OPT", ffn_dim=48, word_embed_proj_dim=32).eval()
    assert_exact(model, random_pairs(0))


# --- rotary embeddings that turn by the longest text ----------------------------------------------------------------

DYNAMIC = {
    "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    "max_position_embeddings": 64,
}
LONGROPE = {
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 64, "factor": 16.0,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "family, changes",
    [("Llama", DYNAMIC), ("Phi3", {"sliding_window": None, "original_max_position_embeddings": 64, **LONGROPE})],
)
def test_rotary_embeddings_are_exact_up_to_where_they_turn_and_refused_beyond(family, changes):
    model = model_of(family, **changes)
    assert_exact(model, random_pairs(1, count=3, longest=20))
    assert_refused(model.float(), r"rotary embeddings change for all texts of a row once one reaches 64 tokens, and",
                   long_pairs(40))  # fmt: skip


# --- adapters that begin somewhere in a row -------------------------------------------------------------------------


def test_an_activated_lora_is_refused():
    config = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", alora_invocation_tokens=[3, 4])
    assert_refused(get_peft_model(packed_model(), config), r"an activated LoRA \(aLoRA\) begins")


# --- what a composite model names inside ----------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_the_attention_that_an_inner_config_names_is_as_it_was(fails):
    text = {**SIZES, "head_dim": 8, "sliding_window": 16, "hidden_size": 32, "num_hidden_layers": 2}
    vision = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    model = transformers.Gemma3ForConditionalGeneration(
        transformers.Gemma3Config(text_config=text, vision_config=vision)
    ).eval()
    model.config._attn_implementation = "sdpa"
    model.config.text_config._attn_implementation = "eager"
    try:
        if fails:
            model.model.language_model.layers[1].mlp.register_forward_pre_hook(lambda *_: 1 / 0)
        with torch.no_grad():
            shared_prompt.pair_log_probs(model, pack(random_pairs(0)))
    except (ValueError, ZeroDivisionError):
        pass
    assert model.config._attn_implementation == "sdpa"
    assert model.config.text_config._attn_implementation == "eager"
    assert model.config.vision_config._attn_implementation == "sdpa"
