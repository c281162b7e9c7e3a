"""Queries and keys seen layer by layer give the very maps that eager attention returns."""

import pytest
import torch

from tiny_models import small_model
from zephyr_lab.losses.attention_kd import attention_map
from zephyr_lab.models import mixtral
from zephyr_lab.models.attention import listening, whole_maps

IDS = torch.randint(6, 600, (3, 24), generator=torch.Generator().manual_seed(0))


def left_padded():
    mask = torch.ones_like(IDS)
    mask[0, :5] = 0
    return {"attention_mask": mask}


def packed():
    return {"position_ids": torch.tensor([[*range(10), *range(14)], [*range(24)], [*range(3), *range(21)]])}


CASES = {
    "plain": ({}, lambda seed: small_model(seed)),
    "window shorter than the text": ({}, lambda seed: small_model(seed, window=6)),
    "padded on the left": (left_padded(), lambda seed: small_model(seed)),
    "packed": (packed(), lambda seed: small_model(seed)),
    "a mixture": (
        {},
        lambda seed: mixtral.upcycle(small_model(seed), experts=2, top=1, noise=0.1, router_sd=0.1, seed=0),
    ),
}


@pytest.mark.parametrize(("inputs", "make"), CASES.values(), ids=CASES)
def test_each_layer_is_seen_once_and_gives_its_map(inputs, make):
    listened, eager = make(0), make(0)
    eager.set_attn_implementation("eager")
    seen = []
    with torch.no_grad(), listening(listened, seen.append):
        listened(input_ids=IDS, use_cache=False, **inputs)
    maps = whole_maps(eager, input_ids=IDS, **inputs)
    assert [layer.layer for layer in seen] == list(range(len(maps)))
    for layer, expected in zip(seen, maps, strict=True):
        found = attention_map(layer.queries, layer.keys, layer.allowed, scale=layer.scale)
        sees = layer.allowed.any(dim=-1).expand(len(IDS), *expected.shape[1:3])  # blind queries differ: zeros, or even
        assert torch.allclose(found[sees], expected[sees], atol=1e-6)
        assert layer.keys.shape[1] == 2 and layer.queries.shape[1] == 4  # shared keys stay shared


def test_listening_changes_no_output_and_ends_with_its_block():
    model = small_model(0)
    expected = model(input_ids=IDS, use_cache=False).logits
    seen = []
    with pytest.raises(KeyboardInterrupt), listening(model, seen.append):
        assert torch.equal(model(input_ids=IDS, use_cache=False).logits, expected)
        raise KeyboardInterrupt
    assert model.config._attn_implementation == "sdpa" and len(seen) == 2
    assert torch.equal(model(input_ids=IDS, use_cache=False).logits, expected)
    assert len(seen) == 2


def test_two_models_have_a_listener_each():
    one, two = small_model(0), small_model(1)
    first, second = [], []
    with listening(one, first.append), listening(two, second.append):
        one(input_ids=IDS, use_cache=False)
        two(input_ids=IDS, use_cache=False)
    assert len(first) == len(second) == 2
    assert not torch.equal(first[0].queries, second[0].queries)


def test_sdpa_has_no_maps_and_says_so():
    with pytest.raises(ValueError, match=r"^attention implementation 'sdpa' gives no maps; load the model with attn_"):
        whole_maps(small_model(0), input_ids=IDS)


def test_a_model_without_replaceable_attention_is_refused():
    model = small_model(0)
    model._supports_attention_backend = False
    with pytest.raises(ValueError, match=r"^MistralForCausalLM has no replaceable attention"), listening(model, print):
        pass
