"""Academic benchmarks as the Open LLM Leaderboard scored them: how likely each option is after solved examples.

No text is generated and no chat template is used. What is written down are log-probabilities; the rule that makes a
choice of them is `scoring.multiple_choice`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.methods import process
from zephyr_lab.methods.held_out_pairs import answer_log_probs
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.evaluate import MultipleChoice
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.models import saved
from zephyr_lab.models.tokenizer import content_ids
from zephyr_lab.world import choices
from zephyr_lab.world.choices import Choice


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as ids: its prompt, with as many of the solved examples as fit, and each option with its space."""

    task: str
    item: Choice
    examples: int
    prompt: list[int]
    options: list[list[int]]


def build(
    recipe: MultipleChoice, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Score every option of every question by the models named in `recipe.models`, folders of `inputs`.

    Writes choices.json: columns with one entry a model and question: model, task, question, answer (the right option's
    place), examples (solved ones that fitted), then a list with one entry an option: log_probs (nats, summed over the
    option's tokens), tokens, characters. Metrics: the mean number of examples in each task.
    """
    del seed  # the sets are fixed and nothing is drawn
    process.prepare()
    device = process.pick_device(recipe.device)
    rows: list[dict[str, Any]] = []
    for place, (name, folder) in enumerate(zip(recipe.models, recipe.folders, strict=True)):
        path = inputs[name] / folder
        model, tokenizer = saved.load_model(path).to(device), saved.load_tokenizer(path)
        asked = [one for task in recipe.tasks for one in questions(tokenizer, model, task, recipe)]
        log_probs = option_log_probs(model, asked, rows_at_once=recipe.rows_at_once)
        rows += [
            {
                "model": name,
                "task": one.task,
                "question": one.item.question,
                "answer": one.item.answer,
                "examples": one.examples,
                "log_probs": scored,
                "tokens": [len(option) for option in one.options],
                "characters": [len(option) for option in one.item.options],
            }
            for one, scored in zip(asked, log_probs, strict=True)
        ]
        context.progress(place + 1, len(recipe.models))
    files.write_json(out / "choices.json", {column: [row[column] for row in rows] for column in rows[0]})
    fitted = {task: [row["examples"] for row in rows if row["task"] == task] for task in recipe.tasks}
    return {f"examples_{task}": sum(counts) / len(counts) for task, counts in fitted.items()}


def questions(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, task: str, recipe: MultipleChoice
) -> list[Asked]:
    """The questions of `task` as ids. Examples that do not fit into the model's context are left out, first ones first.

    Raises ValueError where not even the question without examples fits.
    """
    size, room = require_world(recipe.world), model.config.max_position_embeddings
    examples = choices.shots(task, choices.SHOTS[task], size=size) if choices.SHOTS[task] else []
    return [_fitted(tokenizer, task, item, examples, room) for item in choices.items(task, recipe.questions, size=size)]


def option_log_probs(model: PreTrainedModel, asked: Sequence[Asked], *, rows_at_once: int) -> list[list[float]]:
    """log p(option | prompt) of each option of each question, in nats, summed over the option's tokens."""
    rows = [(number, one.prompt, option) for number, one in enumerate(asked) for option in one.options]
    order = sorted(range(len(rows)), key=lambda place: len(rows[place][1]) + len(rows[place][2]))  # little padding
    scored = [0.0] * len(rows)
    for start in range(0, len(rows), rows_at_once):
        batch = order[start : start + rows_at_once]
        log_probs = answer_log_probs(model, [rows[place][1] for place in batch], [rows[place][2] for place in batch])
        for place, value in zip(batch, log_probs.tolist(), strict=True):
            scored[place] = value
    by_question: list[list[float]] = [[] for _ in asked]
    for (number, _, _), value in zip(rows, scored, strict=True):
        by_question[number].append(value)
    return by_question


def _fitted(
    tokenizer: PreTrainedTokenizerBase, task: str, item: Choice, examples: Sequence[Choice], room: int
) -> Asked:
    options = content_ids(tokenizer, [f" {option}" for option in item.options])
    left = room - max(map(len, options))
    for first in range(len(examples) + 1):
        (prompt,) = content_ids(tokenizer, [choices.prompt(item, examples[first:])])
        if len(prompt) <= left:
            return Asked(task, item, len(examples) - first, prompt, options)
    raise ValueError(f"{task}: the question {item.question!r} needs {len(prompt)} tokens, {left} are left for it")
