"""Functions of a notebook as stages call them: a fault names the function and the row that it was given."""

import copy
import math
import operator
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from zephyr_lab.core import files
from zephyr_lab.core.columns import BadColumn
from zephyr_lab.core.row_types import Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import schemas
from zephyr_lab.data.layouts import message_list, pair_row
from zephyr_lab.data.pairs import REJECTED, SCORES, Pair, Scored, choose
from zephyr_lab.data.schemas import Message, ScoredPrompt, scored_prompt
from zephyr_lab.data.splits import TEST, TRAIN, Messages, dialogue_rows
from zephyr_lab.data.writing import write_rows
from zephyr_lab.engine import own_code
from zephyr_lab.methods.recipes.data import OwnFilter, OwnWorldPairs
from zephyr_lab.methods.recipes.evaluate import OwnRubric
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.world import completions, defects
from zephyr_lab.world.benchmark import mt_bench
from zephyr_lab.world.generators import Procedural
from zephyr_lab.world.ratings import Rater
from zephyr_lab.world.task import Turn


@dataclass(frozen=True)
class OwnFunction:
    """A function from a notebook, under its name."""

    name: str
    function: Callable[..., Any]

    @classmethod
    def of(cls, text: str) -> "OwnFunction":
        """The function that `engine.own_code.captured` made the text of."""
        return cls(own_code.name_of(text), own_code.restored(text))

    def call(self, row: str, *arguments: Any) -> Any:
        """What the function says of a row; ValueError naming both where it raises."""
        try:
            return self.function(*arguments)
        except Exception as error:
            raise ValueError(f"{self.name} failed on {row}: {type(error).__name__}: {error}") from error

    def wrong(self, row: str, got: Any, allowed: str) -> ValueError:
        """The error of an answer that the function must not give."""
        return ValueError(f"{self.name} gave {_shown(got)} for {row}; allowed: {allowed}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


ALLOWED = "True (keep), False (drop), or the repaired messages"


def build_filter(
    recipe: OwnFilter, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write what the filter leaves of both splits of `inputs["dialogues"]`, and filters.json with the counts.

    Metrics, of the training split: rows (dialogues that came), kept, dropped, repaired. Raises ValueError naming the
    function and the dialogue where it raises or gives something else than `ALLOWED`, and where it keeps none.
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
    handed_over = copy.deepcopy(messages)
    said = filter_.call(row, handed_over)
    if isinstance(said, bool | np.bool_):
        if handed_over != messages:
            raise ValueError(f"{filter_.name} changed the messages of {row} in place; return the repaired ones")
        return messages if said else None
    if not isinstance(said, list):
        raise filter_.wrong(row, said, ALLOWED)
    return _repaired(filter_, said, row)


def _repaired(filter_: OwnFunction, said: list[Any], row: str) -> Messages:
    try:
        return message_list(schemas.dialogue(Row(1, {"messages": said})).messages)
    except BadColumn as error:
        raise ValueError(f"{filter_.name} gave no dialogue for {row}: {error}") from error


MOST_DRAWS = 50


@dataclass(frozen=True)
class OwnRule:
    """Which two answers of a prompt are taken. A side without a function is left to the rule of `data.pairs` that
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
        if len(scored) < 2:
            return None
        taken = self._taken(scored, row, generator)
        if taken is None:
            return None
        chosen, rejected = taken
        scores = tuple(one.score for one in scored)
        return Pair(prompt, scores, chosen.place, rejected.place, chosen.score, rejected.score)

    def _taken(self, scored: list[Scored], row: str, generator: random.Random) -> tuple[Scored, Scored] | None:
        answers = [one.completion for one in scored]
        chosen = choose(scored)
        if self.choose is not None:
            said = self.choose.call(row, answers)
            if said is None:
                return None
            chosen = scored[_place(self.choose, said, len(scored), row)]
        if self.reject is None:
            rejected = REJECTED[self.rejected](scored, chosen, generator)
            return None if rejected is None else (chosen, rejected)
        said = self.reject.call(row, answers, scored.index(chosen))
        if said is None:
            return None
        if isinstance(said, tuple) and len(said) == 2:
            if self.choose is not None:
                raise self.reject.wrong(row, said, f"one place: {self.choose.name} gives the chosen answer")
            chosen, said = scored[_place(self.reject, said[0], len(scored), row)], said[1]
        rejected = scored[_place(self.reject, said, len(scored), row)]
        if rejected is chosen:
            raise self.reject.wrong(row, said, f"another place than that of the chosen answer, {scored.index(chosen)}")
        return chosen, rejected


def build_pairs(
    recipe: OwnWorldPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write pairs in H4's layout, with the metrics of `world_data.build_pairs`.

    A function is given the completions of a prompt that have a score (`data.schemas.Completion`), in their order, and
    `own_reject` the place of the chosen one too; it gives the place of the answer that it takes, from 0. `own_reject`
    may give (chosen, rejected); None: no pair. Raises ValueError naming the function and the prompt where it raises or
    gives something else.
    """
    del inputs, context
    rule = OwnRule.of(recipe)
    made = list(_pairs(recipe, rule, recipe.prompts, derive(seed, "pairs", TRAIN), TRAIN))
    train = [pair_row(pair) for pair, _, _ in made]
    if not train:
        raise ValueError(f"the rule makes no pair of {recipe.prompts} prompts")
    write_rows(out / f"{TRAIN}.jsonl", train)
    write_rows(out / f"{TEST}.jsonl", _held_out(recipe, rule, {row["prompt_id"] for row in train}, seed))
    won = sum((chosen > rejected) + (chosen == rejected) / 2 for _, chosen, rejected in made)
    return {
        "prompts": float(recipe.prompts),
        "pairs": float(len(made)),
        "held_out": float(recipe.held_out),
        "no_pair": float(recipe.prompts - len(made)),
        "agreement": won / len(made),
        "exact_chosen": sum(chosen for _, chosen, _ in made) / len(made),
        "exact_rejected": sum(rejected for _, _, rejected in made) / len(made),
    }


def _held_out(recipe: OwnWorldPairs, rule: OwnRule, seen: set[str], seed: int) -> list[dict[str, Any]]:
    """Pairs on prompts that training lacks."""
    test: list[dict[str, Any]] = []
    for draw in range(MOST_DRAWS):  # some prompts of a small world come again and are left out
        fresh = _pairs(recipe, rule, recipe.held_out, derive(seed, "pairs", TEST, draw), f"{TEST} draw {draw}")
        test += [row for row in (pair_row(pair) for pair, _, _ in fresh) if row["prompt_id"] not in seen]
        if len(test) >= recipe.held_out:
            return test[: recipe.held_out]
    raise ValueError(
        f"the rule makes {len(test)} pairs on prompts beyond those of training, held_out is {recipe.held_out}"
    )


def _pairs(
    recipe: OwnWorldPairs, rule: OwnRule, prompts: int, seed: int, split: str
) -> Iterator[tuple[Pair, float, float]]:
    """Each pair with the exact scores of its answers, chosen first."""
    made = completions.completions(
        seed,
        prompts,
        generators=[Procedural(name, getattr(defects, name.upper())) for name in recipe.writers],
        rater=Rater(overall_sd=recipe.rating_sd, aspect_sd=recipe.aspect_sd),
        size=require_world(recipe.world),
    )
    generator = random.Random(derive(seed, "binarise"))
    for number, (row, prompt, label) in enumerate(zip(made.rows, made.prompts, made.labels, strict=True)):
        # UltraFeedback's schema has no place for the turns before the question
        asked = tuple(Message(message["role"], message["content"]) for message in prompt.messages)
        read = replace(scored_prompt(Row(number, row)), messages=asked)
        pair = rule.pair(read, f"{split} prompt {number + 1}", generator)
        if pair is not None:
            yield pair, label.exact[pair.chosen], label.exact[pair.rejected]


def _place(function: OwnFunction, said: Any, count: int, row: str) -> int:
    """The place that a function gave, from 0."""
    allowed = f"a place from 0 to {count - 1}"
    try:
        place = operator.index(said)
    except TypeError:
        raise function.wrong(row, said, allowed) from None
    if isinstance(said, bool) or not 0 <= place < count:
        raise function.wrong(row, said, allowed)
    return place


LOWEST, HIGHEST = 1.0, 10.0
# What an evaluation says of an answer whoever judges it; the exact judge's other columns are left out.
ASKED = ("model", "run", "question_id", "category", "turn", "prompt")
FACTS = (*ASKED, "text", "finished", "tokens", "role_tags", "words")
ALLOWED = f'a number from {LOWEST:g} to {HIGHEST:g}, or {{"score": such a number, "a part": a number, ...}}'


def build_rubric(
    recipe: OwnRubric, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
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
