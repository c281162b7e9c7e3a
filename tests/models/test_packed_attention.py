"""Packed texts are read as if each were alone, windows included."""

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from tiny_models import small_model
from zephyr_lab.models import packed_attention
from zephyr_lab.models.packed_attention import packed, packed_row, require_apart

TEXTS = [torch.tensor(ids) for ids in ([5, 6, 7, 8, 9], [10, 11], [12], [13, 14, 15, 16])]
LENGTHS = [len(text) for text in TEXTS]


@pytest.mark.parametrize("window", [None, 3])
def test_each_text_is_read_as_if_alone_and_so_are_its_gradients(window):
    model = small_model(window=window)
    with packed(model, LENGTHS):
        together = model(**packed_row(TEXTS), use_cache=False).logits[0]
    alone = torch.cat([model(input_ids=text[None], use_cache=False).logits[0] for text in TEXTS])
    assert torch.allclose(together, alone, atol=1e-4)
    weights = torch.randn(together.shape, generator=torch.Generator().manual_seed(0))
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad((together * weights).sum(), parameters),
        torch.autograd.grad((alone * weights).sum(), parameters),
        strict=True,
    ):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_the_model_is_as_it_was_afterwards():
    model = small_model()
    before = model.config._attn_implementation
    with packed(model, LENGTHS):
        pass
    assert model.config._attn_implementation == before
    assert not any(hasattr(module, "packed_lengths") for module in model.modules())


def test_other_rows_than_the_lengths_say_are_refused():
    model = small_model()
    with packed(model, [2, 2]), pytest.raises(ValueError, match="given 1 rows of 12 tokens, packed are 4 in one"):
        model(**packed_row(TEXTS), use_cache=False)


def test_an_empty_text_is_refused():
    with pytest.raises(ValueError, match=r"got lengths \[1, 0\]"):
        packed_row([torch.tensor([1]), torch.tensor([], dtype=torch.long)])


def test_dropout_and_models_without_the_interface_are_refused():
    model = small_model().train()
    model.config.attention_dropout = 0.1
    with pytest.raises(ValueError, match="attention_dropout is 0"), packed(model, LENGTHS):
        pass
    model._supports_attention_backend = False
    with pytest.raises(ValueError, match="no replaceable attention; pad the texts"), packed(model, LENGTHS):
        pass


def test_gradient_checkpointing_is_refused():
    model = small_model().train()
    model.activation_checkpointing_enable()
    with pytest.raises(ValueError, match="with their usual attention; switch it off"), packed(model, LENGTHS):
        pass


# --- what carries more than attention along a row -------------------------------------------------------------------

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 60,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def model_of(family, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        configuration = getattr(transformers, f"{family}Config")(**{**SIZES, **changes})
        model = AutoModelForCausalLM.from_config(configuration, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(8)  # at the usual initial scale a text hardly sees its own past
    return model


MIXING = [
    ("Lfm2", {"layer_types": ["conv", "full_attention"]}, "layers of type conv"),
    ("MiniMax", {"num_local_experts": 2, "head_dim": 8, "block_size": 4}, "layers of type linear_attention"),
    ("RecurrentGemma", {"lru_width": 32, "attention_window_size": 16}, "layers of type linear_attention"),
    ("Jamba", {"num_experts": 2}, "layers of type linear_attention"),
]


@pytest.mark.parametrize("family, changes, reason", MIXING)
def test_layers_that_read_on_from_text_to_text_are_refused(family, changes, reason):
    with pytest.raises(ValueError, match=reason), packed(model_of(family, **changes), LENGTHS):
        pass


@pytest.mark.parametrize("family, changes", [case[:2] for case in MIXING[:2]])
def test_they_are_found_by_trial_where_the_config_does_not_tell(family, changes, monkeypatch):
    monkeypatch.setattr(packed_attention, "layer_fault", lambda config: None)
    untold = pytest.raises(ValueError, match=r"other hidden states than each has alone")
    with untold, packed(model_of(family, **changes), LENGTHS):
        pass


@pytest.mark.parametrize("family, changes, reason", MIXING[:3])
def test_rows_told_apart_by_positions_alone_are_tried_too(family, changes, reason):
    with pytest.raises(ValueError, match=reason):
        require_apart(model_of(family, **changes), 5)
    require_apart(small_model(window=3), 5)


def test_a_window_by_mask_alone_is_refused():
    model = model_of(
        "Qwen2Moe", use_sliding_window=True, sliding_window=100, max_window_layers=1, num_experts=4,
        moe_intermediate_size=24, shared_expert_intermediate_size=24,
    )  # fmt: skip
    with pytest.raises(ValueError, match="a sliding window of 100 by its mask alone"), packed(model, LENGTHS):
        pass


def test_texts_that_would_turn_each_other_s_rotary_embeddings_are_refused():
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = model_of("Llama", rope_parameters=rope, max_position_embeddings=32)
    with packed(model, [31, 8]):
        pass
    turning = pytest.raises(ValueError, match=r"once one reaches 32 tokens, and the longest here has 32")
    with turning, packed(model, [32, 8]):
        pass


def test_the_trial_leaves_modes_and_random_numbers_as_they_were():
    model = small_model().train()
    model.model.layers[0].eval()
    state = torch.get_rng_state()
    with packed(model, LENGTHS):
        assert model.training and not model.model.layers[0].training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("inside", [False, True])
def test_the_trial_allows_for_products_in_bfloat16(inside):
    """Autocast around the call, or within the model's forward as accelerate has it."""
    model = small_model()
    if inside:
        model.forward = torch.autocast("cpu", dtype=torch.bfloat16)(model.forward)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not inside), packed(model, LENGTHS):
        found = model(**packed_row(TEXTS), use_cache=False).logits
    assert found.isfinite().all()
    assert not torch.is_autocast_enabled("cpu")
