"""Bytes of key-value caches: the formula beside what real caches hold."""

from dataclasses import replace

import pytest
import torch

from any_models import any_model
from tiny_models import SMALL, small_model
from zephyr_lab.models.caches import CacheShape, cache_bytes, shape_of


def test_a_token_costs_keys_and_values_of_every_layer():
    # 2 * 2 layers * 2 key-value heads * 8 numbers * 4 bytes
    assert shape_of(small_model()).token_bytes == 2 * 2 * 2 * 8 * 4
    assert shape_of(small_model().bfloat16()).token_bytes == 2 * 2 * 2 * 8 * 2


def test_within_the_window_each_token_adds_its_bytes():
    model = small_model()
    assert cache_bytes(model, [1, 3]) == [shape_of(model).token_bytes, 3 * shape_of(model).token_bytes]


def test_beyond_the_window_nothing_is_added():
    first, second = cache_bytes(small_model(), [2 * SMALL.window, 3 * SMALL.window])
    assert first == second == (SMALL.window - 1) * shape_of(small_model()).token_bytes


def test_without_a_window_it_grows_on():
    model = small_model(window=None)
    assert cache_bytes(model, [40]) == [40 * shape_of(model).token_bytes]


@pytest.mark.parametrize("window", [None, 16])
def test_one_by_one_and_in_one_pass_the_cache_holds_the_same(window):
    model = small_model(window=window)
    assert cache_bytes(model, range(1, 41))[-1] == cache_bytes(model, [40])[0]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma", "gpt2", "gemma2"])
def test_the_formula_is_what_caches_of_other_families_hold(family):
    model, lengths = any_model(family), [1, 5, 12, 40]
    assert cache_bytes(model, lengths) == [shape_of(model).bytes_after(length) for length in lengths]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("key_value_heads", [1, 3, 9])
def test_a_skeleton_has_the_caches_of_its_shape(key_value_heads, window, dtype):
    shape = CacheShape(9, key_value_heads, 4, (window,) * 3, dtype)
    skeleton, lengths = shape.skeleton(), [2, 5, 6, 11]
    assert shape_of(skeleton) == shape
    by_hand = [2 * 3 * key_value_heads * 4 * dtype.itemsize * min(n, (window or 99) - 1) for n in lengths]
    assert cache_bytes(skeleton, lengths) == by_hand == [shape.bytes_after(length) for length in lengths]


def test_a_skeleton_draws_no_random_number_and_has_one_window():
    shape = shape_of(small_model())
    before = torch.random.get_rng_state()
    shape.skeleton()
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(ValueError, match="one window in all its layers"):
        replace(shape, windows=(4, None)).skeleton()
