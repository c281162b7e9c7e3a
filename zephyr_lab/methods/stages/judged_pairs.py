"""Preference pairs whose labels come from one objective of the judge: the data half of a change of objective.

The same prompts and the same four answers a prompt as `world_data.build_pairs` draws under the same seed; only the
scores that the pairs are made from are others.
"""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.core.rows import Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import schemas
from zephyr_lab.data.pairs import Binarisation, Pair, binarise
from zephyr_lab.data.schemas import prompt_id
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods.recipes.rlhf import JudgedPairs
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.world import answers, completions
from zephyr_lab.world.completions import Procedural, Prompt
from zephyr_lab.world.judge import grade, value

MOST_DRAWS = 50


def build(recipe: JudgedPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object) -> dict[str, float]:
    """Write train.jsonl and test.jsonl in H4's layout; test pairs are on prompts that training lacks.

    Metrics: pairs, held_out; agreement (share of pairs whose chosen answer is worth more in truth, ties half); value of
    chosen and rejected answers, and their words, means over the training pairs.
    """
    del inputs, context
    train, truth = _pairs(recipe, recipe.prompts, derive(seed, "pairs", TRAIN))
    seen = {row["prompt_id"] for row in train}
    test: list[dict[str, Any]] = []
    draw = 0
    while len(test) < recipe.held_out:
        fresh, _ = _pairs(recipe, recipe.held_out, derive(seed, "pairs", TEST, draw))
        test += [row for row in fresh if row["prompt_id"] not in seen]
        draw += 1
        if draw > MOST_DRAWS:
            raise ValueError(f"the {recipe.world} world has no {recipe.held_out} prompts beyond those of training")
    for split, rows in ((TRAIN, train), (TEST, test[: recipe.held_out])):
        files.write_text(out / f"{split}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    won = [(chosen > rejected) + (chosen == rejected) / 2 for chosen, rejected in truth]
    return {
        "pairs": float(len(train)),
        "held_out": float(recipe.held_out),
        "agreement": _mean(won),
        "value_chosen": _mean([chosen for chosen, _ in truth]),
        "value_rejected": _mean([rejected for _, rejected in truth]),
        "words_chosen": _mean([len(row["chosen"][-1]["content"].split()) for row in train]),
        "words_rejected": _mean([len(row["rejected"][-1]["content"].split()) for row in train]),
    }


def _pairs(recipe: JudgedPairs, prompts: int, seed: int) -> tuple[list[dict[str, Any]], list[tuple[float, float]]]:
    """Rows in H4's layout, and the true values of chosen and rejected answer of each."""
    made = completions.completions(
        seed,
        prompts,
        generators=[Procedural(name, getattr(answers, name.upper())) for name in recipe.writers],
        size=require_world(recipe.world),
    )
    rng = random.Random(derive(seed, "judge"))
    values, rows = [], []
    for row, prompt in zip(made.rows, made.prompts, strict=True):
        true = [value(grade(prompt.turn, one["response"]), recipe.objective) for one in row["completions"]]
        values.append(true)
        scored = [
            {**one, "overall_score": on_the_scale(exact + rng.gauss(0.0, recipe.judge_sd))}
            for one, exact in zip(row["completions"], true, strict=True)
        ]
        rows.append({**row, "completions": scored})
    read = [schemas.scored_prompt(Row(number, row)) for number, row in enumerate(rows)]
    # These scores are the objective's; the ratings in the rows are another judge's and say nothing of them.
    how = Binarisation(chosen="overall_score", rejected=recipe.rejected, raw_scores=True)
    found, truth = [], []
    for outcome in binarise(read, how, seed=derive(seed, "binarise")):
        if isinstance(outcome, Pair):
            place = outcome.prompt.row.number
            found.append(_row(outcome, made.prompts[place]))
            truth.append((values[place][outcome.chosen], values[place][outcome.rejected]))
    return found, truth


def on_the_scale(points: float) -> float:
    """Points as a score from 0 to 10, in the same order: the layout allows no other, and a judge may go beyond."""
    return 10 / (1 + math.exp(-points / 5))


def _row(pair: Pair, prompt: Prompt) -> dict[str, Any]:
    sides = {
        side: [*prompt.messages, {"role": "assistant", "content": pair.prompt.completions[place].response}]
        for side, place in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    text = "\n".join(message["content"] for message in prompt.messages)
    scores = {"score_chosen": pair.score_chosen, "score_rejected": pair.score_rejected}
    return {
        "prompt": prompt.turn.prompt,
        "prompt_id": prompt_id(text),
        **sides,
        "messages": sides["chosen"],
        **scores,
    }


def _mean(numbers: Sequence[float | int]) -> float:
    return sum(numbers) / len(numbers)
