"""The same prompts answered by the target: the data that its draft is aligned on, and the answers it is tested with.

Turn by turn, each after the target's own answer to the turn before, as it would happen in use.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_prompts
from zephyr_lab.data.splits import row_messages, stage_rows
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.draft_data import LABEL, Regeneration
from zephyr_lab.methods.stages.draft_data import TEST, TRAIN, write_rows
from zephyr_lab.models import saved
from zephyr_lab.models.tokenizer import decode

Messages = list[dict[str, str]]


def build(recipe: Regeneration, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Answer the prompts of `inputs["pool"]` with `inputs["target"]`.

    Writes train.jsonl and test.jsonl; rows keep id and benchmark. Rows whose answers do not end within the limit are
    set aside: an end that the target did not say would be a false label. Metrics: rows, unfinished (training rows).

    Raises ValueError for prompts that leave no room for an answer, and where no answer ends.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["target"] / recipe.folder
    model, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    metrics = {}
    for split in (TEST, TRAIN):
        prompts = stage_rows(inputs["pool"], split)
        answered = regenerate(
            model,
            tokenizer,
            [user_turns(row) for row in prompts],
            max_new_tokens=recipe.max_new_tokens,
            temperature=recipe.temperature,
            seed=derive(seed, "regenerate", split),
        )
        rows = [_row(row, messages) for row, messages in zip(prompts, answered, strict=True) if messages]
        if not rows:
            raise ValueError(
                f"none of {len(prompts)} answers ends within {recipe.max_new_tokens} tokens; raise max_new_tokens"
            )
        write_rows(out / f"{split}.jsonl", rows)
        metrics = {"rows": float(len(rows)), "unfinished": float(len(prompts) - len(rows))}
    return metrics


def user_turns(row: dict[str, Any]) -> list[str]:
    """What the user says in a dialogue, in order."""
    return [message["content"] for message in row_messages(row) if message["role"] == "user"]


def regenerate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Sequence[str]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[Messages | None]:
    """Each list of user turns as a dialogue with the model's answers; None where an answer did not end in time."""
    dialogues: list[Messages | None] = [[] for _ in asked]
    for turn in range(max(len(turns) for turns in asked)):
        open_rows = [place for place, turns in enumerate(asked) if turn < len(turns) and dialogues[place] is not None]
        if not open_rows:
            break
        talking = [[*(dialogues[place] or []), {"role": "user", "content": asked[place][turn]}] for place in open_rows]
        completions = sample(
            model,
            encode_prompts(tokenizer, talking),
            max_new_tokens=max_new_tokens,
            temperatures=temperature,
            generator=torch.Generator().manual_seed(derive(seed, turn)) if temperature else None,
        )
        for place, messages, completion in zip(open_rows, talking, completions, strict=True):
            # Without role tags that a model may emit: as content they would be other tokens than it said.
            answer = {"role": "assistant", "content": decode(tokenizer, list(completion.ids[:-1]))}
            dialogues[place] = [*messages, answer] if completion.finished else None
    return dialogues


def _row(row: dict[str, Any], messages: Messages) -> dict[str, Any]:
    return {"id": row.get("id"), "messages": messages, LABEL: row.get(LABEL)}
