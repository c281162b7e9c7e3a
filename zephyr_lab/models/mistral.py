"""Mistral from scratch, small: grouped-query attention, a sliding window, tied embeddings.

Every setting that transformers would fill in silently is written out (a window of 4096, untied embeddings and no pad
token are its defaults), so that other builders can match them.
"""

from dataclasses import dataclass

import torch
from transformers import (
    GenerationConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

ROPE_THETA = 10_000.0
RMS_NORM_EPS = 1e-6
INITIALIZER_RANGE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class MistralShape:
    """Sizes of a dense Mistral. window: tokens that a position attends to, itself included; None: all before it."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    window: int | None
    context: int

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise ValueError(f"hidden must be a multiple of heads, got {self.hidden} and {self.heads}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads must be a multiple of kv_heads, got {self.heads} and {self.kv_heads}")
        if (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden / heads must be even (rotary positions), got {self.hidden} / {self.heads}")

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads


def config(shape: MistralShape, tokenizer: PreTrainedTokenizerBase) -> MistralConfig:
    """The transformers configuration, with the vocabulary's size and special ids taken from `tokenizer`."""
    return MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        intermediate_size=shape.ffn,
        sliding_window=shape.window,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        rms_norm_eps=RMS_NORM_EPS,
        initializer_range=INITIALIZER_RANGE,
        hidden_act="silu",
        attention_dropout=0.0,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def build(shape: MistralShape, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> MistralForCausalLM:
    """A fresh model in float32 on the CPU; `seed` decides its weights, and the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MistralForCausalLM(config(shape, tokenizer))
    model.generation_config = generation_config(model.config)
    return model


def generation_config(model: PreTrainedConfig) -> GenerationConfig:
    """The special ids of a model's configuration alone: sampling settings belong to whoever samples."""
    return GenerationConfig(**{name: getattr(model, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")})
