"""A draft's data from sets of the hub: questions with or without answers, whole conversations, benchmark prompts.

The files have the layout that `draft_data` writes for the world: train.jsonl, and test.jsonl with one row a prompt.
"""

import random
from collections.abc import Callable
from pathlib import Path
from string import Formatter
from typing import Any

from zephyr_lab.core.rows import BadColumn, Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.hub import Hub
from zephyr_lab.data.sources import usable
from zephyr_lab.methods.recipes.draft_data import GENERAL, LABEL, HubQuestions
from zephyr_lab.methods.stages.draft_data import TEST, TRAIN, write_rows

SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
NO_ANSWER = "-"  # where a set's answer is left out or unknown: the target's own takes its place before training

Read = Callable[[Row], dict[str, Any]]


def build(recipe: HubQuestions, *, seed: int, inputs: dict[str, Path], out: Path, context: object) -> dict[str, float]:
    """Write `recipe.rows` rows of the set and `recipe.held_out` prompts of each benchmark, drawn by the seed.

    Metrics: rows, unusable (of the set), prompts. Raises OSError where the hub cannot be reached, ValueError where no
    row of a set is usable.
    """
    del inputs, context
    read = conversation if not recipe.question else _reader(recipe.question, recipe.answer, GENERAL)
    rows, unusable = usable(Hub(recipe.id, recipe.revision or None, recipe.config or None), recipe.split, read)
    held_out = []
    for name, id, config, split, question in zip(
        recipe.benchmarks,
        recipe.benchmark_ids,
        recipe.benchmark_configs,
        recipe.benchmark_splits,
        recipe.benchmark_questions,
        strict=True,
    ):
        prompts, _ = usable(Hub(id, None, config or None), split, _reader(question, "", name))
        held_out += _drawn(prompts, recipe.held_out, derive(seed, "benchmark", name))
    write_rows(out / f"{TRAIN}.jsonl", _drawn(rows, recipe.rows, derive(seed, "questions")))
    write_rows(out / f"{TEST}.jsonl", held_out)
    kept = min(recipe.rows, len(rows))
    return {"rows": float(kept), "unusable": float(len(unusable)), "prompts": float(len(held_out))}


def conversation(row: Row) -> dict[str, Any]:
    """A row of ShareGPT's layout: {"id", "conversations": [{"from": "human", "value": ...}, ...]}.

    What an assistant says before the first question and a question without answer at the end are left out. Raises
    BadColumn for a row without a whole exchange, and for speakers that do not take turns.
    """
    said = row.data.get("conversations")
    if not isinstance(said, list) or not said:
        raise BadColumn("conversations", "must be a list with at least one turn")
    messages: list[dict[str, str]] = []
    for place, turn in enumerate(said):
        where = f"conversations[{place}]"
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise BadColumn(where, "must be an object with from and a text in value")
        role = SPEAKERS.get(turn.get("from"))
        if role is None:
            raise BadColumn(f"{where}.from", f"must be one of {', '.join(SPEAKERS)}, got {turn.get('from')!r}")
        if role == "assistant" and not any(message["role"] == "user" for message in messages):
            continue
        if messages and messages[-1]["role"] == role:
            raise BadColumn(f"{where}.from", f"two turns of the {role} in a row")
        messages.append({"role": role, "content": turn["value"]})
    if messages and messages[-1]["role"] == "user":
        messages.pop()
    if not any(message["role"] == "assistant" for message in messages):
        raise BadColumn("conversations", "holds no answered question")
    return {"id": row.data.get("id", row.number), "messages": messages, LABEL: GENERAL}


def filled(template: str, row: Row) -> str:
    """`template` with the row's columns in the places of their names in braces. Raises BadColumn for one it lacks."""
    text = ""
    for before, name, _, _ in Formatter().parse(template):
        text += before
        if name is not None:
            if not isinstance(row.data.get(name), str | int | float) or isinstance(row.data[name], bool):
                raise BadColumn(name, f"must be a text or a number, got {type(row.data.get(name)).__name__}")
            text += str(row.data[name])
    return text


def _reader(question: str, answer: str, label: str) -> Read:
    def read(row: Row) -> dict[str, Any]:
        asked = filled(question, row)
        if not asked.strip():
            raise BadColumn("question", "is empty")
        said = filled(answer, row) if answer else NO_ANSWER
        return {"id": row.data.get("id", row.number), "data": [asked, said], LABEL: label}

    return read


def _drawn(rows: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    return random.Random(seed).sample(rows, min(count, len(rows)))
