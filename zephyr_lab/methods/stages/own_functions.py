"""Functions from a notebook as stages: a filter of dialogues, a rule of pairs, a rubric for finished answers.

An error names the function and the row that it was called on. No model and no torch.
"""

import copy
import math
import operator
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from zephyr_lab.core import files
from zephyr_lab.core.rows import BadColumn, Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import schemas
from zephyr_lab.data.file_steps import write_rows
from zephyr_lab.data.pairs import REJECTED, SCORES, Pair, Scored, choose
from zephyr_lab.data.schemas import Message, ScoredPrompt, message_list, scored_prompt
from zephyr_lab.data.splits import TEST, TRAIN, Messages, dialogue_rows
from zephyr_lab.engine import own_code
from zephyr_lab.methods.recipes.data import OwnFilter, OwnWorldPairs
from zephyr_lab.methods.recipes.evaluate import OwnRubric
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.methods.stages.world_data import Drawn, pair_metrics, pair_row, scored_completions, write_splits
from zephyr_lab.world.benchmark import mt_bench
from zephyr_lab.world.task import Turn

OF_A_FILTER = "True (keep), False (drop), or the repaired messages"
LOWEST, HIGHEST = 1.0, 10.0
OF_A_RUBRIC = f'a number from {LOWEST:g} to {HIGHEST:g}, or {{"score": such a number, "a part": a number, ...}}'
# What an evaluation says of an answer whoever judges it; the exact judge's other columns are left out.
FACTS = (
    "model", "run", "question_id", "category", "turn", "prompt", "text", "finished", "tokens", "role_tags", "words"
)  # fmt: skip


@dataclass(frozen=True)
class OwnFunction:
    """A function from a notebook, under its name."""

    name: str
    function: Callable[..., Any]

    @classmethod
    def of(cls, text: str) -> "OwnFunction":
        """The function that `engine.own_code.captured` wrote as `text`."""
        return cls(own_code.name_of(text), own_code.restored(text))

    def call(self, row: str, *arguments: Any) -> Any:
        """What the function returns for a row; ValueError naming both where it raises."""
        try:
            return self.function(*arguments)
        except Exception as error:
            raise ValueError(f"{self.name} failed on {row}: {type(error).__name__}: {error}") from error

    def wrong(self, row: str, got: Any, allowed: str) -> ValueError:
        """The error of a value that the function must not return."""
        text = repr(got)
        return ValueError(
            f"{self.name} gave {text if len(text) <= 80 else f'{text[:77]}...'} for {row}; allowed: {allowed}"
        )


def build_filter(
    recipe: OwnFilter, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write what the filter leaves of both splits of `inputs["dialogues"]`, and filters.json with the counts.

    Metrics, of the training split: rows (dialogues read), kept, dropped, repaired. Raises ValueError naming the
    function and the dialogue where it raises or returns something else than `OF_A_FILTER`, and where it keeps none.
    """
    del seed, context
    filter_ = OwnFunction.of(recipe.own_filter)
    counts = {}
    for split in (TRAIN, TEST):
        rows = dialogue_rows(inputs["dialogues"], split).rows
        left = [filtered(filter_, messages, f"{split} dialogue {number}") for number, messages in enumerate(rows, 1)]
        kept = [messages for messages in left if messages is not None]
        if not kept:
            raise ValueError(f"{filter_.name} keeps none of {len(rows)} {split} dialogues")
        write_rows(out / f"{split}.jsonl", ({"messages": messages} for messages in kept))
        repaired = sum(before != after for before, after in zip(rows, left, strict=True) if after is not None)
        counts[split] = {"rows": len(rows), "kept": len(kept), "dropped": len(rows) - len(kept), "repaired": repaired}
    files.write_json(out / "filters.json", counts)
    return {name: float(count) for name, count in counts[TRAIN].items()}


def filtered(filter_: OwnFunction, messages: Messages, row: str) -> Messages | None:
    """The messages as the filter leaves them, None where it drops them."""
    argument = copy.deepcopy(messages)
    verdict = filter_.call(row, argument)
    if isinstance(verdict, bool | np.bool_):
        if argument != messages:
            raise ValueError(f"{filter_.name} changed the messages of {row} in place; return the repaired ones")
        return messages if verdict else None
    if not isinstance(verdict, list):
        raise filter_.wrong(row, verdict, OF_A_FILTER)
    try:
        return message_list(schemas.dialogue(Row(1, {"messages": verdict})).messages)
    except BadColumn as error:
        raise ValueError(f"{filter_.name} gave no dialogue for {row}: {error}") from error


def build_pairs(
    recipe: OwnWorldPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write pairs of the world chosen or rejected by a function, with the metrics of `world_data.build_pairs`.

    Prompts and scored answers are those that `world_data.build_pairs` draws under the same seed, so that arms differ in
    the rule alone. A function gets the completions of a prompt that have a score (`data.schemas.Completion`), in their
    order, and `own_reject` the place of the chosen one too; it returns the place of the answer that it takes, from 0.
    `own_reject` may return (chosen, rejected); None: no pair. Raises ValueError naming the function and the prompt
    where it raises or returns something else.
    """
    del inputs, context
    rule = OwnRule.of(recipe)

    def draw(prompts: int, seed: int, name: str) -> Drawn:
        drawn = scored_completions(recipe, prompts, seed)
        generator = random.Random(derive(seed, "binarise"))
        rows, truth = [], []
        for number, (row, prompt, label) in enumerate(zip(drawn.rows, drawn.prompts, drawn.labels, strict=True)):
            # UltraFeedback's schema has no place for the turns before the question.
            asked = tuple(Message(message["role"], message["content"]) for message in prompt.messages)
            read = replace(scored_prompt(Row(number, row)), messages=asked)
            pair = rule.pair(read, f"{name} prompt {number + 1}", generator)
            if pair is not None:
                rows.append(pair_row(pair, prompt))
                truth.append((label.exact[pair.chosen], label.exact[pair.rejected]))
        return rows, truth

    return pair_metrics(recipe, *write_splits(recipe, draw, out, seed))


@dataclass(frozen=True)
class OwnRule:
    """Which two answers of a prompt make the pair. A side without a function is left to the rule of `data.pairs` that
    `chosen` or `rejected` names."""

    chosen: str
    rejected: str
    choose: OwnFunction | None
    reject: OwnFunction | None

    @classmethod
    def of(cls, recipe: OwnWorldPairs) -> "OwnRule":
        own = (OwnFunction.of(text) if text else None for text in (recipe.own_choose, recipe.own_reject))
        return cls(recipe.chosen, recipe.rejected, *own)

    def pair(self, prompt: ScoredPrompt, row: str, generator: random.Random) -> Pair | None:
        """The pair of one prompt, None where it gives none. Raises ValueError naming the function and the row."""
        score = SCORES[self.chosen]
        scored = [
            Scored(place, value, one)
            for place, one in enumerate(prompt.completions)
            if (value := score(one)) is not None
        ]
        both = self._chosen_and_rejected(scored, row, generator) if len(scored) > 1 else None
        if both is None:
            return None
        chosen, rejected = both
        scores = tuple(one.score for one in scored)
        return Pair(prompt, scores, chosen.place, rejected.place, chosen.score, rejected.score)

    def _chosen_and_rejected(
        self, scored: list[Scored], row: str, generator: random.Random
    ) -> tuple[Scored, Scored] | None:
        answers = [one.completion for one in scored]
        chosen = choose(scored)
        if self.choose is not None:
            place = self.choose.call(row, answers)
            if place is None:
                return None
            chosen = scored[_place(self.choose, place, len(scored), row)]
        if self.reject is None:
            rejected = REJECTED[self.rejected](scored, chosen, generator)
            return None if rejected is None else (chosen, rejected)
        place = self.reject.call(row, answers, scored.index(chosen))
        if place is None:
            return None
        if isinstance(place, tuple) and len(place) == 2:
            if self.choose is not None:
                raise self.reject.wrong(row, place, f"one place: {self.choose.name} gives the chosen answer")
            chosen, place = scored[_place(self.reject, place[0], len(scored), row)], place[1]
        rejected = scored[_place(self.reject, place, len(scored), row)]
        if rejected is chosen:
            raise self.reject.wrong(row, place, f"another place than that of the chosen answer, {scored.index(chosen)}")
        return chosen, rejected


def _place(function: OwnFunction, value: Any, count: int, row: str) -> int:
    """The place that a function returned, from 0."""
    try:
        place = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        place = -1
    if not 0 <= place < count:
        raise function.wrong(row, value, f"a place from 0 to {count - 1}")
    return place


def build_rubric(
    recipe: OwnRubric, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Judge the answers of `inputs["evaluation"]` anew; no model is asked again.

    Writes answers.json with the rubric's score and parts in place of the exact judge's, and pairs.json as it was.
    Metrics: each model's mean score over all answers. Raises ValueError naming the function, the model, question and
    turn where it raises, returns something else than `OF_A_RUBRIC`, or other parts than for the answer before.
    """
    del seed, context
    rubric = OwnFunction.of(recipe.own_rubric)
    questions = mt_bench(recipe.questions, size=require_world(recipe.world))
    turns = {(one.question_id, place): turn for one in questions for place, turn in enumerate(one.turns, 1)}
    answers = files.read_json(inputs["evaluation"] / "answers.json")
    asked = zip(answers["model"], answers["question_id"], answers["turn"], answers["text"], strict=True)
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
    scores: dict[str, list[float]] = {}
    for model, score in zip(columns["model"], columns["score"], strict=True):
        scores.setdefault(model, []).append(score)
    return {model: sum(of_model) / len(of_model) for model, of_model in scores.items()}


def judged(rubric: OwnFunction, turn: Turn, text: str, row: str) -> dict[str, float]:
    """{"score": ..., part: ...} of one answer."""
    verdict = rubric.call(row, turn, text)
    parts = dict(verdict) if isinstance(verdict, Mapping) else {"score": verdict}
    taken = [name for name in parts if not isinstance(name, str) or name in FACTS]
    if taken:
        raise rubric.wrong(row, verdict, f"parts under names of their own, not {taken[0]!r}")
    if not all(_is_number(value) for value in parts.values()) or not LOWEST <= parts.get("score", 0.0) <= HIGHEST:
        raise rubric.wrong(row, verdict, OF_A_RUBRIC)
    return {name: float(value) for name, value in parts.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
