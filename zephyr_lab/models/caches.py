"""Bytes of a key-value cache: by arithmetic, and of real caches, with heads that share keys and values or a window."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache, MistralConfig, MistralForCausalLM, PreTrainedModel

SMALLEST = 8  # sizes that no cache depends on: vocabulary, hidden vector, feed-forward


@dataclass(frozen=True)
class CacheShape:
    """What a cache's size hangs on. windows: of each layer the tokens that a position attends to, itself included;
    None for all before it."""

    heads: int
    key_value_heads: int
    head_size: int
    windows: tuple[int | None, ...]
    dtype: torch.dtype

    @property
    def token_bytes(self) -> int:
        """Of one token: 2 * layers * key-value heads * head size * bytes of a number."""
        return 2 * len(self.windows) * self.key_value_heads * self.head_size * self.dtype.itemsize

    def bytes_after(self, tokens: int) -> int:
        """Keys and values of all layers after `tokens` tokens. With a window of W a layer keeps the last W - 1, which
        the next token attends to beside itself."""
        kept = sum(tokens if window is None else min(tokens, window - 1) for window in self.windows)
        return self.token_bytes * kept // len(self.windows)

    def skeleton(self) -> MistralForCausalLM:
        """A random model with such a cache and as little else as can be. Raises ValueError for unlike windows."""
        if len(set(self.windows)) > 1:
            raise ValueError("a Mistral has one window in all its layers; give each layer the same")
        config = MistralConfig(
            vocab_size=SMALLEST,
            hidden_size=SMALLEST,
            intermediate_size=SMALLEST,
            num_hidden_layers=len(self.windows),
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            head_dim=self.head_size,
            sliding_window=self.windows[0],
        )
        with torch.random.fork_rng(devices=[]):
            return MistralForCausalLM(config).to(self.dtype).eval()


def shape_of(model: PreTrainedModel) -> CacheShape:
    """The shape of the model's cache, as its configuration says."""
    config = model.config.get_text_config()
    heads, window = config.num_attention_heads, getattr(config, "sliding_window", None)
    every = ["sliding_attention" if window else "full_attention"] * config.num_hidden_layers
    return CacheShape(
        heads=heads,
        key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        windows=tuple(
            window if kind == "sliding_attention" else None for kind in getattr(config, "layer_types", None) or every
        ),
        dtype=model.dtype,
    )


def cache_bytes(model: PreTrainedModel, lengths: Sequence[int]) -> list[int]:
    """Bytes of the keys and values that the model's cache holds after it read so many tokens, for rising lengths."""
    cache, sizes, read = DynamicCache(config=model.config), [], 0
    with torch.inference_mode():
        for length in lengths:
            ids = torch.zeros(1, length - read, dtype=torch.long, device=model.device)
            places = torch.arange(read, length, device=model.device)[None]
            model(input_ids=ids, position_ids=places, past_key_values=cache, use_cache=True, logits_to_keep=1)
            held = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
            sizes.append(sum(tensor.numel() * tensor.element_size() for tensor in held))
            read = length
    return sizes
