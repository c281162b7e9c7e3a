"""TRL's DPOTrainer and its drop-in, made alike: a tiny random model, a tokenizer of words and pairs of texts."""

from functools import cache

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig

from packed_models import packed_model

WORDS = ["<pad>", "<s>", "</s>", *(f"w{place}" for place in range(37))]  # as many as `packed_models` has entries
# Of Adam a large epsilon: its first steps would else blow the rounding of gradients near 0 up to whole steps.
QUIET = {
    "adam_epsilon": 1e-3,
    "use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True, "save_strategy": "no",
    "logging_steps": 1, "gradient_checkpointing": False, "per_device_train_batch_size": 4, "max_steps": 2,
    "learning_rate": 1e-2, "beta": 0.5,
}  # fmt: skip


@cache
def word_tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def text_pairs(rows: int = 8) -> Dataset:
    """Prompts and answers of one to five words; TRL appends the end token."""

    def words(start: int, count: int) -> str:
        return " ".join(f"w{(start * 7 + place * 5) % 37}" for place in range(count))

    return Dataset.from_list(
        [
            {"prompt": words(row, 2 + row % 4), "chosen": " " + words(row + 11, 1 + row % 5),
             "rejected": " " + words(row + 23, 1 + (row * 3) % 4)}
            for row in range(rows)
        ]
    )  # fmt: skip


def settings(folder, **changes) -> DPOConfig:
    """Two steps on the CPU that print nothing, with these changes."""
    return DPOConfig(output_dir=str(folder), **{**QUIET, **changes})


def made(kind, folder, *, changes=None, policy=None, reference="other", **given):
    """A trainer of this kind; `reference`: "other" is a model of other weights, None leaves it to the trainer."""
    if reference == "other":
        given["ref_model"] = packed_model("llama", seed=1)
    return kind(
        model=packed_model("llama") if policy is None else policy,
        args=settings(folder, **(changes or {})),
        train_dataset=given.pop("train_dataset", text_pairs()),
        processing_class=word_tokenizer(),
        **given,
    )


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in trainer.model.named_parameters()}


def losses(trainer) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def farthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max((ours[name] - one).abs().max().item() for name, one in theirs.items())
