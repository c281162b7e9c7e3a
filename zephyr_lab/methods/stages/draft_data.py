"""A draft's data as stages: dialogues of the world or the hub, and a selection of them by scores. No model, no torch.

train.jsonl holds dialogues, test.jsonl first questions of benchmarks, both in UltraChat's layout (or H4's messages)
with one more column, `benchmark`: the specialty or the published benchmark, or "general".
"""

import math
import random
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from string import Formatter
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.core.rows import BadColumn, Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.file_steps import write_rows
from zephyr_lab.data.hub import Hub
from zephyr_lab.data.sources import usable
from zephyr_lab.data.splits import TEST, TRAIN, stage_rows
from zephyr_lab.engine import own_code
from zephyr_lab.methods.recipes import draft_data as recipes
from zephyr_lab.methods.recipes.draft_data import CHAT, GENERAL, LABEL
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.scoring import representation_shift
from zephyr_lab.world import answers, catalogue, specialties
from zephyr_lab.world.answers import answer
from zephyr_lab.world.facts import Facts, build
from zephyr_lab.world.task import Task, Turn

PATIENCE = 1000  # draws without a new held-out question


def build_dialogues(
    recipe: recipes.SpecialtyDialogues, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write two-turn dialogues of the world, training side, and first questions of its benchmark side.

    What a target is fine-tuned on, and the pool that its draft may learn from. Metrics: rows, and how many of them are
    general. Raises ValueError where the world has too few held-out questions.
    """
    facts = build(require_world(recipe.world))
    rng = random.Random(derive(seed, "specialty dialogues", recipe.specialty))
    rows = []
    for place in range(recipe.rows):
        task, label = _training_task(rng, facts, recipe)
        rows.append(_row(rng, task.turns, label, recipe, f"{TRAIN}-{place}"))
    held_out = [
        _row(rng, task.turns[:1], recipe.specialty, recipe, f"{TEST}-{place}")
        for place, task in enumerate(held_out_tasks(recipe, facts))
    ]
    write_rows(out / f"{TRAIN}.jsonl", rows)
    write_rows(out / f"{TEST}.jsonl", held_out)
    return {"rows": float(len(rows)), "general": float(sum(row[LABEL] == GENERAL for row in rows))}


def held_out_tasks(recipe: recipes.SpecialtyDialogues, facts: Facts) -> list[Task]:
    """`recipe.held_out` different questions, the same under every seed: a benchmark."""
    rng, categories = random.Random(f"held-out {recipe.specialty}"), tuple(catalogue.MT_BENCH)
    tasks: dict[str, Task] = {}
    since = 0
    while len(tasks) < recipe.held_out:
        if recipe.specialty == CHAT:
            task = catalogue.draw(rng, facts, categories[len(tasks) % len(categories)], held_out=True)
        else:
            task = specialties.draw(rng, facts, recipe.specialty, held_out=True)
        since = 0 if task.key not in tasks else since + 1
        tasks.setdefault(task.key, task)
        if since > PATIENCE:
            raise ValueError(
                f"the {recipe.world} world has only {len(tasks)} held-out questions of {recipe.specialty}, "
                f"{recipe.held_out} are asked for"
            )
    return list(tasks.values())


def _training_task(rng: random.Random, facts: Facts, recipe: recipes.SpecialtyDialogues) -> tuple[Task, str]:
    if recipe.specialty == CHAT or rng.random() < recipe.general_share:
        return catalogue.draw_general(rng, facts), GENERAL
    return specialties.draw(rng, facts, recipe.specialty), recipe.specialty


def _row(
    rng: random.Random, turns: Sequence[Turn], label: str, recipe: recipes.SpecialtyDialogues, id: str
) -> dict[str, Any]:
    noise = getattr(answers, (recipe.general_noise if label in (GENERAL, CHAT) else recipe.noise).upper())
    data = [text for turn in turns for text in (turn.prompt, answer(rng, turn, noise)[0])]
    return {"id": id, "data": data, LABEL: label}


SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
NO_ANSWER = "-"  # where a set's answer is left out or unknown: the target's own takes its place before training


def build_hub(
    recipe: recipes.HubQuestions, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write `recipe.rows` rows of the set and `recipe.held_out` prompts of each benchmark, drawn by the seed.

    Metrics: rows, unusable (of the set), prompts. Raises OSError where the hub cannot be reached, ValueError where no
    row of a set is usable.
    """
    read = conversation if not recipe.question else _reader(recipe.question, recipe.answer, GENERAL)
    rows, unusable = usable(Hub(recipe.id, recipe.revision or None, recipe.config or None), recipe.split, read)
    held_out = []
    columns = (
        recipe.benchmarks,
        recipe.benchmark_ids,
        recipe.benchmark_configs,
        recipe.benchmark_splits,
        recipe.benchmark_questions,
    )
    for name, id, config, split, question in zip(*columns, strict=True):
        prompts, _ = usable(Hub(id, None, config or None), split, _reader(question, "", name))
        held_out += _drawn(prompts, recipe.held_out, derive(seed, "benchmark", name))
    write_rows(out / f"{TRAIN}.jsonl", _drawn(rows, recipe.rows, derive(seed, "questions")))
    write_rows(out / f"{TEST}.jsonl", held_out)
    kept = min(recipe.rows, len(rows))
    return {"rows": float(kept), "unusable": float(len(unusable)), "prompts": float(len(held_out))}


def conversation(row: Row) -> dict[str, Any]:
    """A row of ShareGPT's layout: {"id", "conversations": [{"from": "human", "value": ...}, ...]}.

    An assistant's words before the first question and a last question without answer are left out. Raises BadColumn for
    a row without an answered question, and for speakers that do not take turns.
    """
    turns = row.data.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise BadColumn("conversations", "must be a list with at least one turn")
    messages: list[dict[str, str]] = []
    for place, turn in enumerate(turns):
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


def _reader(question: str, answer: str, label: str) -> Callable[[Row], dict[str, Any]]:
    def read(row: Row) -> dict[str, Any]:
        texts = [filled(question, row), filled(answer, row) if answer else NO_ANSWER]
        if not texts[0].strip():
            raise BadColumn("question", "is empty")
        return {"id": row.data.get("id", row.number), "data": texts, LABEL: label}

    return read


def _drawn(rows: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    return random.Random(seed).sample(rows, min(count, len(rows)))


# Of each rule: the column of scores.json that ranks the rows, and which end of it is kept.
BY_RULE = {
    recipes.SHIFT_TOP: ("shift", representation_shift.TOP),
    recipes.SHIFT_BOTTOM: ("shift", representation_shift.BOTTOM),
    recipes.RANDOM: ("shift", representation_shift.RANDOM),
    recipes.LOSS_TOP: ("loss", representation_shift.TOP),
}


def build_selection(
    recipe: recipes.Selection, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write the selected training rows of `inputs["data"]`, by `inputs["scores"]`, and all its test rows.

    Metrics: rows, and the mean score of the rows kept. Raises ValueError where scores and rows do not match.
    """
    rows = {split: stage_rows(inputs["data"], split) for split in (TRAIN, TEST)}
    scores = files.read_json(inputs["scores"] / "scores.json")
    if scores["id"] != [row.get("id") for row in rows[TRAIN]]:
        raise ValueError("the scores belong to other rows than those to select from")
    column, end = BY_RULE[recipe.rule]
    ranked = scores[column]
    kept = representation_shift.select(ranked, share=recipe.share, rule=end, seed=derive(seed, "selection"))
    write_rows(out / f"{TRAIN}.jsonl", [rows[TRAIN][number] for number in kept])
    write_rows(out / f"{TEST}.jsonl", rows[TEST])
    return {"rows": float(len(kept)), "mean_score": sum(ranked[number] for number in kept) / len(kept)}


def build_own_scores(
    recipe: recipes.OwnScores, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write the scores of `inputs["scores"]` with the rule's value of each row's (shift, loss) in place of the shift.

    A selection of the largest shift then keeps the rows of the rule's highest values. Metrics: rows, mean_score. Raises
    ValueError, naming the row, for a value that is no finite number.
    """
    rule = own_code.restored(recipe.rule)
    scores = files.read_json(inputs["scores"] / "scores.json")
    values = []
    for id, shift, loss in zip(scores["id"], scores["shift"], scores["loss"], strict=True):
        value = rule(shift, loss)
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(
                f"{own_code.name_of(recipe.rule)} gave {value!r} for row {id} (shift {shift:.4g}, loss {loss:.4g}); a "
                "score must be a finite number"
            )
        values.append(float(value))
    files.write_json(out / "scores.json", {**scores, "shift": values})
    return {"rows": float(len(values)), "mean_score": sum(values) / len(values)}
