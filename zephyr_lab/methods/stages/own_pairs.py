"""Pairs of the world chosen or rejected by a function from a notebook, as a stage.

Prompts and scored answers are those that `world_data.build_pairs` draws under the same seed, so that arms differ in the
rule alone. The drawing stands here again: the key of every pair that a published rule made covers it there.
"""

import operator
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zephyr_lab.core.rows import Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.file_steps import write_rows
from zephyr_lab.data.pairs import REJECTED, SCORES, Pair, Scored, choose, pair_row
from zephyr_lab.data.schemas import Message, ScoredPrompt, scored_prompt
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods.own_functions import OwnFunction
from zephyr_lab.methods.recipes.own_functions import OwnWorldPairs
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.world import answers, completions
from zephyr_lab.world.completions import Procedural
from zephyr_lab.world.ratings import Rater

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


def build(recipe: OwnWorldPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object) -> dict[str, float]:
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
        generators=[Procedural(name, getattr(answers, name.upper())) for name in recipe.writers],
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
