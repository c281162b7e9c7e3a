"""Bytes that a model's key-value cache holds after reading a text: with a sliding window they stop growing.

Jiang et al. 2023, arXiv 2310.06825, section 2: a position attends to the W before it, so that older keys and values can
be dropped, while information still travels layers * W positions.
"""

from pathlib import Path

import torch
from transformers import DynamicCache, PreTrainedModel

from zephyr_lab.core import files
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.kv_cache import KVCache
from zephyr_lab.models import saved


def build(recipe: KVCache, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Read texts of 1, 2, ... windows with `inputs["base"]` and count the bytes of its cache.

    Writes cache.json, a row a length: tokens, bytes. Metrics: window (0: none), layers, token_bytes (of all layers),
    bytes_1 (after one window), bytes_2.
    """
    del seed  # nothing is drawn
    process.prepare()
    model = saved.load_model(inputs["base"]).to(process.pick_device(recipe.device))
    window = getattr(model.config, "sliding_window", None) or 0
    step = window or recipe.full_attention_tokens
    reach = model.config.max_position_embeddings // step
    if reach < 2:
        raise ValueError(f"the model has {model.config.max_position_embeddings} positions, fewer than two of {step}")
    lengths = [step * count for count in range(1, min(recipe.windows, reach) + 1)]
    rows = [{"tokens": length, "bytes": cache_bytes(model, length)} for length in lengths]
    context.progress(1, 1)
    files.write_json(out / "cache.json", rows)
    return {
        "window": float(window),
        "layers": float(model.config.num_hidden_layers),
        "token_bytes": float(token_bytes(model)),
        "bytes_1": float(rows[0]["bytes"]),
        "bytes_2": float(rows[1]["bytes"]),
    }


def cache_bytes(model: PreTrainedModel, tokens: int) -> int:
    """Bytes of keys and values after `tokens` tokens were read one by one, as in decoding, all layers together."""
    cache = DynamicCache(config=model.config)
    ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        for place in range(tokens):
            positions = torch.tensor([[place]], device=model.device)
            model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True)
    return sum(
        tensor.numel() * tensor.element_size() for layer in cache.layers for tensor in (layer.keys, layer.values)
    )


def token_bytes(model: PreTrainedModel) -> int:
    """Bytes of one token's keys and values by arithmetic: 2 * layers * key-value heads * head size * bytes a number."""
    config = model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head * model.dtype.itemsize
