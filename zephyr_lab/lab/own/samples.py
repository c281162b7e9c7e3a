"""What models say to the same prompts with the same draws: one answer at temperature 0, one sampled."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.data.chat import prompt_ids
from zephyr_lab.data.splits import Prompt
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.lab.own.judges import question_of
from zephyr_lab.lab.own.measures import Judge, both_ways
from zephyr_lab.models.own_template import Unwritable


def writable(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Those of `prompts` that the tokenizer's chat template can write."""
    ids = prompt_ids(tokenizer, prompts)
    return [prompt for prompt, of_prompt in zip(prompts, ids, strict=True) if not isinstance(of_prompt, Unwritable)]


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    temperature: float,
    max_new_tokens: int,
    seed: int = 0,
    rows_at_once: int = 8,
) -> list[str]:
    """One answer to each prompt, at most `max_new_tokens` long; equal seeds draw equal numbers for any model."""
    generator = torch.Generator().manual_seed(seed)
    given = sample(
        model,
        prompt_ids(tokenizer, prompts),
        max_new_tokens=max_new_tokens,
        temperatures=temperature,
        generator=generator,
        rows_at_once=rows_at_once,
    )
    return [tokenizer.decode(list(one.ids), skip_special_tokens=True).strip() for one in given]


def beside(prompts: Sequence[Prompt], spoken: Mapping[str, Mapping[str, Sequence[str]]], *, shown: int) -> pd.DataFrame:
    """The first `shown` prompts, a row each way of asking and model: question, asked ("temperature 0"), model, answer.

    spoken: answers to all prompts, by way of asking and model.
    """
    return pd.DataFrame(
        [
            {"question": question_of(prompt), "asked": asked, "model": model, "answer": texts[place]}
            for place, prompt in enumerate(prompts[:shown])
            for asked, by_model in spoken.items()
            for model, texts in by_model.items()
        ],
        columns=["question", "asked", "model", "answer"],
    )


def rated_pairs(judge: Judge, prompts: Sequence[Prompt], one: Sequence[str], other: Sequence[str]) -> list[dict]:
    """Preference rows of two answers to each prompt, of those that the judge tells apart in both orders together."""
    rows = []
    for prompt, first, second in zip(prompts, one, other, strict=True):
        if not first or not second or first == second:
            continue
        better, _ = both_ways(judge, question_of(prompt), first, second)
        if better == 0.5:
            continue
        chosen, rejected = (first, second) if better > 0.5 else (second, first)
        spoken = isinstance(prompt, str)
        as_row = (lambda text: text) if spoken else (lambda text: [{"role": "assistant", "content": text}])
        rows.append({"prompt": prompt, "chosen": as_row(chosen), "rejected": as_row(rejected)})
    return rows
