"""A small tokenizer and small random models, made once for all tests of a process."""

from functools import cache

import torch
from transformers import MistralForCausalLM, PreTrainedTokenizerFast

from zephyr_lab.methods.recipes.pretrain import Pretrain
from zephyr_lab.models import mistral
from zephyr_lab.models.tokenizer import train
from zephyr_lab.world import corpus

torch.set_num_threads(1)  # models this small only lose time to a second thread, and bits hang on the number
TEXTS = corpus.documents(1, 400)
SMALL = mistral.MistralShape(hidden=32, layers=2, heads=4, kv_heads=2, ffn=48, window=16, context=128)

# The smallest base that learns anything: two seconds.
RECIPE = Pretrain(
    world="tiny",
    documents=300,
    tokenizer_documents=300,
    entries=640,
    hidden=32,
    layers=2,
    heads=4,
    kv_heads=2,
    ffn=64,
    window=24,
    context=128,
    rows=4,
    row_length=64,
    steps=60,
    learning_rate=1e-2,
    weight_decay=0.1,
    warmup=3,
    final_share=0.1,
    clip=1.0,
    checkpoint_every=7,
    device="cpu",
)


@cache
def small_tokenizer() -> PreTrainedTokenizerFast:
    return train(TEXTS, entries=640)


def small_model(seed: int = 0, **changes) -> MistralForCausalLM:
    """A fresh random Mistral in evaluation mode, with sharper weights than training starts from.

    At the usual initial scale all next tokens are about equally likely, and greedy answers would hang on rounding.
    """
    sizes = {name: getattr(SMALL, name) for name in SMALL.__slots__}
    model = mistral.build(mistral.MistralShape(**{**sizes, **changes}), small_tokenizer(), seed=seed).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(8)
    return model
