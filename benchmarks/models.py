"""Models that the benchmarks run: Mistral's architecture, small, from a seed; its matrix products."""

import torch
from transformers import MistralConfig, MistralForCausalLM

HIDDEN, LAYERS, HEADS, KV_HEADS, FFN = 256, 4, 8, 2, 896
# Wider than training starts from: next tokens and attention rows are far from uniform, and margins have both signs.
INITIALIZER_RANGE = 0.06

Product = tuple[int, int, int]


def mistral(
    seed: int, *, entries: int, layers: int = LAYERS, window: int | None = None, hidden: int = HIDDEN
) -> MistralForCausalLM:
    """A model in float32 with a head of its own (untied), as published ones of this architecture."""
    config = MistralConfig(
        vocab_size=entries, hidden_size=hidden, intermediate_size=FFN * hidden // HIDDEN, num_hidden_layers=layers,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=hidden // HEADS, sliding_window=window,
        max_position_embeddings=8192, attention_dropout=0.0, tie_word_embeddings=False,
        initializer_range=INITIALIZER_RANGE, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MistralForCausalLM(config)


def layer_products(tokens: int, *, layers: int, trained: bool) -> list[Product]:
    """The matrix products of the layers' projections for so many tokens; attention itself is not among them."""
    shared = HIDDEN // HEADS * KV_HEADS
    forward = [
        (tokens, HIDDEN, HIDDEN), (tokens, HIDDEN, shared), (tokens, HIDDEN, shared), (tokens, HIDDEN, HIDDEN),
        (tokens, HIDDEN, FFN), (tokens, HIDDEN, FFN), (tokens, FFN, HIDDEN),
    ]  # fmt: skip
    return layers * [product for one in forward for product in with_backward(one, trained=trained)]


def head_products(tokens: int, entries: int, *, trained: bool) -> list[Product]:
    return with_backward((tokens, HIDDEN, entries), trained=trained)


def with_backward(product: Product, *, trained: bool) -> list[Product]:
    """A product, and where its factors are trained the two that make their gradients."""
    m, k, n = product
    return [product, (m, n, k), (k, m, n)] if trained else [product]
