"""A model and a tokenizer that are small enough for an example or a first try, and need no download."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from zephyr_lab.models import tokenizer as byte_pairs

ENTRIES = 512
TEXTS = ("What is 2 + 2? It is 4.", "Name a fruit. An apple.", "Capital of France? Paris.")


def example_model(*, seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A random Llama of 20,000 parameters, and a tokenizer that reads any text, with Zephyr's chat template.

    >>> model, tokenizer = example_model()
    >>> model.num_parameters() < 30_000
    True
    """
    tokenizer = byte_pairs.train(TEXTS, entries=ENTRIES)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval(), tokenizer
