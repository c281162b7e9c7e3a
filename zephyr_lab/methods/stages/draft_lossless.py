"""Speculative decoding held against plain decoding of the same target: answers token by token, samples by their counts.

A draft decides how fast the target answers, never what: here is the evidence, on models that were trained.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_prompts
from zephyr_lab.data.splits import Messages, dialogue_rows
from zephyr_lab.decoding.drafting import Chain, Draft
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.decoding.speculative import GREEDY, SAMPLING, speculate
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.draft_lossless import DraftLossless
from zephyr_lab.methods.stages.draft_data import TEST, TRAIN
from zephyr_lab.models import draft_files, saved
from zephyr_lab.scoring.samples import chi_square_p, total_variation


def build(
    recipe: DraftLossless, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Compare on the prompts of `inputs["prompts"]`, held-out ones first; `inputs`: target, draft.

    Each dialogue is asked its first question. Training questions count as well: nothing is learned from the answers,
    and to exclude that one in a thousand differs takes thousands of them.

    Writes sampled.json: columns prompt, place (of a token in its answer), variation (total variation of the tokens
    sampled there with and without the draft), variation_plain (of two runs without it), p (chi-square, with and
    without). Metrics: prompts, differing (greedy answers that are not the same), passes and tokens of the drafted
    greedy run.

    Raises ValueError for prompts that leave no room for an answer.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    folder = inputs["target"] / recipe.target_folder
    target, tokenizer = saved.load_model(folder).to(device), saved.load_chat_tokenizer(folder)
    draft = draft_files.load(inputs["draft"] / recipe.draft_folder).to(device)
    dialogues = [one for split in (TEST, TRAIN) for one in dialogue_rows(inputs["prompts"], split).rows]
    prompts = encode_prompts(tokenizer, [first_question(dialogue) for dialogue in dialogues])
    prompts = prompts[: recipe.prompts] if recipe.prompts else prompts
    plain = sample(target, prompts, max_new_tokens=recipe.max_new_tokens, temperatures=0.0, generator=None)
    drafted = speculate(
        target, draft, Chain(recipe.length), prompts, max_new_tokens=recipe.max_new_tokens, verify=GREEDY,
        temperature=0.0, generator=None, rows_at_once=128,
    )  # fmt: skip
    differing = sum(one.ids != other.ids for one, other in zip(plain, drafted, strict=True))
    context.progress(1, 2)
    files.write_json(out / "sampled.json", sampled(recipe, target, draft, prompts, seed=seed))
    return {
        "prompts": float(len(prompts)),
        "differing": float(differing),
        "passes": float(sum(one.passes for one in drafted)),
        "tokens": float(sum(len(one.ids) for one in drafted)),
    }


def first_question(dialogue: Messages) -> Messages:
    """The dialogue up to the user's first turn."""
    return dialogue[: next(place for place, turn in enumerate(dialogue) if turn["role"] == "user") + 1]


def sampled(
    recipe: DraftLossless, target: PreTrainedModel, draft: Draft, prompts: Sequence[Sequence[int]], *, seed: int
) -> dict[str, list[Any]]:
    """Sampled tokens compared, a row a prompt and place: without the draft twice, and with it, drawn chains verified.

    An answer that ended before a place counts there as a value of its own.
    """
    asked = prompts[: recipe.sampled_prompts]
    repeated = [prompt for prompt in asked for _ in range(recipe.samples)]
    runs = [
        sample(
            target, repeated, max_new_tokens=recipe.sampled_tokens, temperatures=recipe.temperature,
            generator=_generator(seed, name),
        )
        for name in ("plain", "plain again")
    ]  # fmt: skip
    drafted = speculate(
        target, draft, Chain(recipe.length, drawn=True), repeated, max_new_tokens=recipe.sampled_tokens,
        verify=SAMPLING, temperature=recipe.temperature, generator=_generator(seed, "drafted"), rows_at_once=128,
    )  # fmt: skip
    columns: dict[str, list[Any]] = {"prompt": [], "place": [], "variation": [], "variation_plain": [], "p": []}
    for prompt in range(len(asked)):
        own = slice(prompt * recipe.samples, (prompt + 1) * recipe.samples)
        for place in range(recipe.sampled_tokens):
            first, second, third = ([_at(answer.ids, place) for answer in run[own]] for run in (*runs, drafted))
            columns["prompt"].append(prompt)
            columns["place"].append(place)
            columns["variation"].append(total_variation(third, first))
            columns["variation_plain"].append(total_variation(second, first))
            columns["p"].append(chi_square_p(third, first))
    return columns


def _at(ids: Sequence[int], place: int) -> int | None:
    return ids[place] if place < len(ids) else None


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, "lossless", name))
