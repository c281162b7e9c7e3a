"""A rubric from a notebook as a stage: the answers of a finished evaluation judged anew. No model is asked again."""

import math
import shutil
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.methods.own_functions import OwnFunction
from zephyr_lab.methods.recipes.own_functions import OwnRubric
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.world.benchmark import mt_bench
from zephyr_lab.world.task import Turn

LOWEST, HIGHEST = 1.0, 10.0
# What an evaluation says of an answer whoever judges it; the exact judge's other columns are left out.
ASKED = ("model", "run", "question_id", "category", "turn", "prompt")
FACTS = (*ASKED, "text", "finished", "tokens", "role_tags", "words")
ALLOWED = f'a number from {LOWEST:g} to {HIGHEST:g}, or {{"score": such a number, "a part": a number, ...}}'


def build(recipe: OwnRubric, *, seed: int, inputs: dict[str, Path], out: Path, context: object) -> dict[str, float]:
    """Write answers.json with the rubric's score and parts in place of the exact judge's; pairs.json as it was.

    Metrics: each model's mean score over all answers. Raises ValueError naming the function, the model, question
    and turn where it raises, gives something else than `ALLOWED`, or other parts than for the answer before.
    """
    del seed, context
    rubric = OwnFunction.of(recipe.own_rubric)
    questions = mt_bench(recipe.questions, size=require_world(recipe.world))
    turns = {(one.question_id, place): turn for one in questions for place, turn in enumerate(one.turns, 1)}
    answers = files.read_json(inputs["evaluation"] / "answers.json")
    asked = list(zip(answers["model"], answers["question_id"], answers["turn"], answers["text"], strict=True))
    verdicts: list[dict[str, float]] = []
    for model, question, turn, text in asked:
        row = f"{model}, question {question}, turn {turn}"
        verdicts.append(judged(rubric, turns[question, turn], text, row))
        if verdicts[-1].keys() != verdicts[0].keys():
            raise rubric.wrong(row, verdicts[-1], f"the parts of every answer: {', '.join(verdicts[0])}")
    columns = {name: answers[name] for name in FACTS} | {name: [one[name] for one in verdicts] for name in verdicts[0]}
    files.write_json(out / "answers.json", columns)
    if (inputs["evaluation"] / "pairs.json").is_file():
        shutil.copyfile(inputs["evaluation"] / "pairs.json", out / "pairs.json")
    return {name: _mean_score(columns, name) for name in dict.fromkeys(answers["model"])}


def judged(rubric: OwnFunction, turn: Turn, text: str, row: str) -> dict[str, float]:
    """{"score": ..., part: ...} of one answer."""
    said = rubric.call(row, turn, text)
    parts = dict(said) if isinstance(said, Mapping) else {"score": said}
    taken = [name for name in parts if not isinstance(name, str) or name in FACTS]
    if taken:
        raise rubric.wrong(row, said, f"parts under names of their own, not {taken[0]!r}")
    if not all(_is_number(value) for value in parts.values()) or not LOWEST <= parts.get("score", 0.0) <= HIGHEST:
        raise rubric.wrong(row, said, ALLOWED)
    return {name: float(value) for name, value in parts.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _mean_score(columns: Mapping[str, list[Any]], name: str) -> float:
    scores = [score for model, score in zip(columns["model"], columns["score"], strict=True) if model == name]
    return sum(scores) / len(scores)
