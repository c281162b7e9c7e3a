"""Queries and keys of any family give the maps of its eager attention, or the family is refused by name."""

import copy

import pytest
import torch

from model_families import all_models, family_model
from tiny_models import small_model
from zephyr_lab.losses.attention_kd import attention_map
from zephyr_lab.models.attention import listening, require_maps, require_windows, tapping

IDS = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))
PADDED = torch.ones_like(IDS)
PADDED[0, :2] = 0  # on the left
# whose projections are not called q_proj; OPT, whose body its forward pass goes around; a window; shared keys
SUPPORTED = ["phi3", "gpt2", "gpt_neox", "jetmoe", "persimmon", "opt", "mistral", "qwen3", "gemma3_text", "gpt_bigcode"]
REFUSED = {
    "gpt_oss": "attention sinks", "granite_swa": "attention sinks", "gemma2": "soft-capped attention scores",
    "doge": "attention masks of numbers", "diffllama": r"attention maps of layers \[0, 0, 1, 1",
    "minimax": r"attention maps of layers \[",
}  # fmt: skip


def eager_maps(model, **inputs):
    own = copy.deepcopy(model)
    own.set_attn_implementation("eager")
    with torch.no_grad():
        return own(input_ids=IDS, output_attentions=True, **inputs).attentions


def check_listening(model, **inputs):
    seen = []
    with torch.no_grad(), listening(model, seen.append):
        logits = model(input_ids=IDS, **inputs).logits
        sees = inputs.get("attention_mask", torch.ones_like(IDS)).bool()
    with torch.no_grad():
        expected_logits = model(input_ids=IDS, **inputs).logits
    assert (logits - expected_logits)[sees].abs().max() <= 1e-4 * expected_logits.abs().max()
    expected = eager_maps(model, **inputs)
    assert len(seen) == len(expected) == model.config.get_text_config().num_hidden_layers
    for layer, theirs in zip(seen, expected, strict=True):
        found = attention_map(layer.queries, layer.keys, layer.allowed, scale=layer.scale)
        assert torch.allclose(found.transpose(1, 2)[sees], theirs.transpose(1, 2)[sees], atol=1e-5)


def check_tapping(model):
    taps = []
    with torch.no_grad(), tapping(model, taps.append):
        model(input_ids=IDS)
    place = torch.arange(IDS.shape[1])
    expected = eager_maps(model)
    assert len(taps) == len(expected)
    for tap, theirs in zip(taps, expected, strict=True):
        near = place[:, None] - place[None] < (tap.window or len(place))
        allowed = ((place[None] <= place[:, None]) & near)[None, None]
        assert torch.allclose(attention_map(tap.queries, tap.keys, allowed, scale=tap.scale), theirs, atol=1e-5)


@pytest.mark.parametrize("family", SUPPORTED)
def test_maps_are_those_of_eager_attention(family):
    model = family_model(family)
    check_listening(model)
    check_listening(model, attention_mask=PADDED)
    check_tapping(model)


@pytest.mark.parametrize("family", REFUSED)
@pytest.mark.parametrize("see", [listening, tapping])
def test_what_has_more_in_its_maps_is_refused_before_anything_runs(family, see):
    model = family_model(family)
    with pytest.raises(ValueError, match=f"has {REFUSED[family]}.*attn_implementation='eager'"), see(model, print):
        pytest.fail("entered")


def test_a_window_by_mask_alone_is_refused_where_the_mask_is_not_read():
    # PhiMoE's attention is told no window; the trial's few tokens would not cross one of 100
    model = family_model("phimoe", sliding_window=100)
    require_maps(model)
    with pytest.raises(ValueError, match=r"PhimoeForCausalLM has a mask that its attention is not told"):
        require_windows(model)
    assert model.config.sliding_window == 100
    require_windows(family_model("phimoe", sliding_window=None))


def test_windows_that_layers_keep_a_copy_of_are_no_ground_to_refuse():
    model = family_model("qwen2", use_sliding_window=True, sliding_window=100, max_window_layers=2, num_hidden_layers=4)
    require_windows(model)
    assert {layer.self_attn.sliding_window for layer in model.model.layers} == {None, 100}
    require_windows(small_model(window=100))


def test_the_trial_changes_neither_modes_nor_random_numbers_nor_settings():
    model = small_model().train()
    before, attributes = torch.random.get_rng_state(), [set(vars(module)) for module in model.modules()]
    require_windows(model)
    assert torch.equal(torch.random.get_rng_state(), before) and model.training
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert model.config._attn_implementation == "sdpa" and model.config.sliding_window == 16


@pytest.mark.parametrize("see", [listening, tapping])
def test_dropout_under_any_name_is_refused_in_training(see):
    model = family_model("gpt2", attn_pdrop=0.1).train()
    with pytest.raises(ValueError, match=r"GPT2Attention has dropout of 0\.1 in its attention"):  # noqa: SIM117
        with see(model, lambda _: None):
            model(input_ids=IDS)


def test_half_precision_is_compared_within_its_rounding():
    model = small_model()
    for layer in model.model.layers:  # scores of a hundred, whose rounding alone moves a map by a tenth
        layer.self_attn.q_proj.weight.data.mul_(20)
    require_windows(model.to(torch.bfloat16))


@pytest.mark.slow
def test_every_family_is_exact_or_refused_by_name():
    listened, tapped = [], []
    for family, model in all_models():
        for see, check, kept in ((listening, check_listening, listened), (tapping, check_tapping, tapped)):
            try:
                with see(model, lambda _: None):
                    pass
            except ValueError as error:
                assert type(model).__name__ in str(error), family
                continue
            check(model)
            kept.append(family)
    assert {"llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", *SUPPORTED} <= set(tapped) <= set(listened)
    assert len(tapped) > 50
