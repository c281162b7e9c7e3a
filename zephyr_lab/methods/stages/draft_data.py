"""Dialogues of a specialty as a stage: what a target is fine-tuned on, and the pool that its draft may learn from.

train.jsonl holds two-turn rows of the training side, test.jsonl first questions of the benchmark side, both in
UltraChat's layout with one more column, `benchmark`: the specialty, or "general". No model and no torch.
"""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.methods.recipes.draft_data import CHAT, GENERAL, LABEL, SpecialtyDialogues
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.world import catalogue, defects, specialties
from zephyr_lab.world.answers import answer
from zephyr_lab.world.facts import Facts, build
from zephyr_lab.world.task import Task, Turn

TRAIN, TEST = "train", "test"
PATIENCE = 1000  # draws without a new held-out question


def build_dialogues(
    recipe: SpecialtyDialogues, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write the dialogues. Metrics: rows, and how many of them are general.

    Raises ValueError where the world has too few held-out questions.
    """
    del inputs, context  # drawn from the seed alone
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


def held_out_tasks(recipe: SpecialtyDialogues, facts: Facts) -> list[Task]:
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


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line."""
    files.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _training_task(rng: random.Random, facts: Facts, recipe: SpecialtyDialogues) -> tuple[Task, str]:
    if recipe.specialty == CHAT or rng.random() < recipe.general_share:
        return catalogue.draw_general(rng, facts), GENERAL
    return specialties.draw(rng, facts, recipe.specialty), recipe.specialty


def _row(rng: random.Random, turns: Sequence[Turn], label: str, recipe: SpecialtyDialogues, id: str) -> dict[str, Any]:
    noise = getattr(defects, (recipe.general_noise if label in (GENERAL, CHAT) else recipe.noise).upper())
    data = [text for turn in turns for text in (turn.prompt, answer(rng, turn, noise)[0])]
    return {"id": id, "data": data, LABEL: label}
