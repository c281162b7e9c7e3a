"""Random models of four families with the small tokenizer's entries, and rows of messages: what any user brings."""

from transformers import PreTrainedModel

import model_families
from packed_models import packed_model
from tiny_models import small_tokenizer

FAMILIES = ("llama", "qwen2", "gemma", "gpt2")
CAPPED = "gemma2"  # whose logits are more than a linear map of hidden states: the lean losses are not for it


def any_model(family: str, *, seed: int = 0) -> PreTrainedModel:
    """A random model of a family, in float32 and evaluation mode, whose first two layers have tokens to attend to."""
    entries = len(small_tokenizer())
    if family == "gpt2":
        return model_families.small_model("gpt2", seed=seed, vocab_size=entries).eval()
    return packed_model(family, seed=seed, vocab_size=entries, initializer_range=0.1).eval()


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def pair_rows(count: int, *, first: int = 0) -> list[dict]:
    """Pairs as TRL has them: the better answer is always a sum in words, the worse one a shrug."""
    return [
        {
            "prompt": [message("user", f"What is {place % 10} plus {(place * 7) % 10}?")],
            "chosen": [message("assistant", f"It is {place % 10 + (place * 7) % 10}.")],
            "rejected": [message("assistant", f"Who knows {'really ' * (place % 3)}?")],
        }
        for place in range(first, first + count)
    ]


def dialogue_rows(count: int) -> list[dict]:
    return [{"messages": [*row["prompt"], *row["chosen"]]} for row in pair_rows(count)]
