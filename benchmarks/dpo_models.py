"""Pairs, TRL's trainers and the matrix products of the DPO benchmarks."""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, PreTrainedTokenizerFast, PrinterCallback
from trl import DPOConfig, DPOTrainer

from benchmarks.models import FFN, HEADS, HIDDEN, KV_HEADS, LAYERS, Product, with_backward
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.fast.pair_packing import PairShape
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods.pair_trainer import StageDPOTrainer
from zephyr_lab.methods.shared_prompt_dpo import StageSharedPromptDPOTrainer

PairSizes = PairShape
Pairs = list[tuple[list[int], list[int], list[int]]]


def random_pairs(sizes: Sequence[PairSizes], *, entries: int, seed: int) -> Pairs:
    """Pairs of random tokens with these lengths."""
    drawn = random.Random(seed)
    return [
        tuple([drawn.randrange(3, entries) for _ in range(count)] for count in (one.prompt, one.chosen, one.rejected))
        for one in sizes
    ]


def rows(pairs: Pairs) -> Dataset:
    return Dataset.from_list([{"prompt_ids": a, "chosen_ids": b, "rejected_ids": c} for a, b, c in pairs])


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """What a trainer asks for; the rows are ids already."""
    words = Tokenizer(WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


class _AsItComes:
    """What a stage adds to TRL's trainer, taken away: its order of rows and its reports."""

    _get_train_sampler = DPOTrainer._get_train_sampler
    training_step = DPOTrainer.training_step
    _save_checkpoint = DPOTrainer._save_checkpoint


class IdTrainer(_AsItComes, StageDPOTrainer):
    """TRL's trainer on rows of ids."""


class OurTrainer(_AsItComes, StageSharedPromptDPOTrainer):
    """Ours on the same rows in the same order."""


class InOrderTrainer(IdTrainer):
    """TRL's trainer on rows as they lie; sorted rows make batches with little padding."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def config(folder: Path, *, best: bool, **changes: object) -> DPOConfig:
    """TRL as it comes (checkpointing, the reference in each step), or with both switched off; float32 on the CPU."""
    given = {
        "output_dir": str(folder), "use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True,
        "max_length": None, "beta": 0.1, "save_strategy": "no", "dataloader_pin_memory": False,
        "gradient_checkpointing": not best, "precompute_ref_log_probs": best, "per_device_train_batch_size": 8,
        "num_train_epochs": 1, "learning_rate": 1e-4, "logging_steps": 1,
    }  # fmt: skip
    return DPOConfig(**{**given, **changes})


def trl_trainer(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    pairs: Pairs,
    folder: Path,
    *,
    best: bool,
    kind: type[StageDPOTrainer] = IdTrainer,
) -> StageDPOTrainer:
    """A trainer of this kind that prints nothing; `best` as in `config`."""
    trainer = kind(
        model=policy, ref_model=reference, args=config(folder, best=best), train_dataset=rows(pairs),
        processing_class=tokenizer(),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer


def whole_logits_loss(
    policy: PreTrainedModel, reference: PreTrainedModel, batch: dict[str, Tensor], *, beta: float
) -> Tensor:
    """DPO's mean loss by the formula: padded rows, all logits, the reference in the same step."""
    with torch.no_grad():
        by_reference = _whole_log_probs(reference, batch)
    return dpo_loss(_whole_log_probs(policy, batch), by_reference, beta=beta).mean()


def _whole_log_probs(model: PreTrainedModel, batch: dict[str, Tensor]) -> PairLogProbs:
    ids = batch["input_ids"]
    logits = model(input_ids=ids, attention_mask=batch["attention_mask"], use_cache=False).logits[:, :-1]
    picked = logits.log_softmax(dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
    return PairLogProbs(*(picked * batch["completion_mask"][:, 1:]).sum(dim=1).chunk(2))


def floor_products(sizes: Sequence[PairSizes], entries: int) -> list[Product]:
    """The matrix products of our step without attention: the last layer's for the tokens that feed the head."""
    tokens = sum(one.tokens for one in sizes)
    selected = sum(one.responses - 1 for one in sizes)
    shared = HIDDEN // HEADS * KV_HEADS
    products = []
    for layer in range(LAYERS):
        count = selected if layer == LAYERS - 1 else tokens
        products += [(tokens, HIDDEN, shared)] * 2 + [(count, HIDDEN, HIDDEN)] * 2
        products += [(count, HIDDEN, FFN)] * 2 + [(count, FFN, HIDDEN)]
    products.append((sum(one.responses for one in sizes), HIDDEN, entries))
    return [product for one in products for product in with_backward(one, trained=True)]
