"""Bytes of the key-value cache: arithmetic, and a window that stops their growth."""

import pytest

from tiny_models import SMALL, small_model
from zephyr_lab.methods.recipes.kv_cache import KVCache
from zephyr_lab.methods.stages.kv_cache import cache_bytes, token_bytes


def test_a_token_costs_keys_and_values_of_every_layer():
    # 2 * 2 layers * 2 key-value heads * 8 numbers * 4 bytes
    assert token_bytes(small_model()) == 2 * 2 * 2 * 8 * 4


def test_within_the_window_each_token_adds_its_bytes():
    model = small_model()
    assert cache_bytes(model, 3) == 3 * token_bytes(model)


def test_beyond_the_window_nothing_is_added():
    model = small_model()
    assert cache_bytes(model, 2 * SMALL.window) == cache_bytes(model, 3 * SMALL.window)
    assert cache_bytes(model, 2 * SMALL.window) <= SMALL.window * token_bytes(model)


def test_without_a_window_it_grows_on():
    model = small_model(window=None)
    assert cache_bytes(model, 40) == 40 * token_bytes(model)


def test_one_window_cannot_be_compared():
    with pytest.raises(ValueError, match="windows must be at least 2"):
        KVCache(windows=1, full_attention_tokens=8, device="cpu")
