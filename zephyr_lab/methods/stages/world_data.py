"""The data of dSFT and dDPO as stages: train.jsonl and test.jsonl, in the published sets' layouts.

Drawn from the embedded world here; a folder with the same files from anywhere else serves the trainings as well. No
model and no torch.
"""

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.core.row_types import Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import schemas
from zephyr_lab.data.filters import counts_for, named_rules, run_rules
from zephyr_lab.data.filters_casing import learn_forms
from zephyr_lab.data.layouts import dialogue_row, prompt_id
from zephyr_lab.data.pairs import Binarisation, Pair, binarise
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods.recipes.data import JudgedPairs, WorldDialogues, WorldPairs
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.world import completions, defects, dialogues
from zephyr_lab.world.generators import Procedural, Prompt
from zephyr_lab.world.generators import Prompt as WorldPrompt
from zephyr_lab.world.judge import grade
from zephyr_lab.world.objectives import value
from zephyr_lab.world.ratings import Rater


def build_dialogues(
    recipe: WorldDialogues, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write filtered dialogues of the world to `out`, with filters.json: what each rule found.

    Metrics: rows drawn, kept, and found_<rule> (dialogues) for the training split.
    """
    del inputs, context  # drawn from the seed alone, in a second
    found = {}
    for split, count in ((TRAIN, recipe.rows), (TEST, recipe.held_out)):
        made = dialogues.dialogues(
            derive(seed, "dialogues", split),
            count,
            noise=_noise(recipe.noise),
            duplicates=recipe.duplicates,
            size=require_world(recipe.world),
        )
        kept, found[split] = _filtered(made.rows, recipe.filters)
        if not kept:
            raise ValueError(f"the filters {', '.join(recipe.filters)} keep none of {count} dialogues")
        _write_rows(out / f"{split}.jsonl", kept)
    files.write_json(out / "filters.json", found)
    rules = {f"found_{name}": count["dialogues"] for name, count in found[TRAIN]["rules"].items()}
    return _numbers(rows=found[TRAIN]["rows"], kept=found[TRAIN]["kept"], **rules)


def build_pairs(
    recipe: WorldPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write preference pairs of the world to `out` in H4's layout: prompt, prompt_id, chosen, rejected, messages.

    `messages` repeats the chosen dialogue, so the same files serve supervised fine-tuning. Test pairs are on prompts
    that training lacks. Metrics: prompts, pairs, held_out, no_pair (prompts whose answers gave none), agreement (share
    of pairs whose chosen answer is better in truth, ties half), and the mean exact scores of both sides.
    """
    del inputs, context
    train, no_pair, truth = _world_pairs(recipe, recipe.prompts, derive(seed, "pairs", TRAIN))
    seen = {row["prompt_id"] for row in train}
    test: list[dict[str, Any]] = []
    draw = 0
    while len(test) < recipe.held_out:  # some prompts of a small world come again and are left out
        fresh, _, _ = _world_pairs(recipe, recipe.held_out, derive(seed, "pairs", TEST, draw))
        test += [row for row in fresh if row["prompt_id"] not in seen]
        draw += 1
        if draw > 50:
            raise ValueError(f"the {recipe.world} world has no {recipe.held_out} prompts beyond those of training")
    _write_rows(out / f"{TRAIN}.jsonl", train)
    _write_rows(out / f"{TEST}.jsonl", test[: recipe.held_out])
    won = sum((chosen > rejected) + (chosen == rejected) / 2 for chosen, rejected in truth)
    return _numbers(
        prompts=recipe.prompts,
        pairs=len(train),
        held_out=recipe.held_out,
        no_pair=no_pair,
        agreement=won / len(truth),
        exact_chosen=sum(chosen for chosen, _ in truth) / len(truth),
        exact_rejected=sum(rejected for _, rejected in truth) / len(truth),
    )


def _filtered(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows that the named rules keep, repaired where a rule repairs, and the counts as plain values."""
    read = [schemas.dialogue(Row(number, row)) for number, row in enumerate(rows, start=1)]
    forms = learn_forms(text for dialogue in read for _, text in dialogue.answers())
    rules = named_rules(names, forms=forms) if names else []
    counts = counts_for(rules)
    kept = []
    for verdict in run_rules(read, rules):
        counts.add(verdict)
        if verdict.kept:
            kept.append(dialogue_row(verdict.dialogue, verdict.texts))
    return kept, asdict(counts)


def _world_pairs(
    recipe: WorldPairs, prompts: int, seed: int
) -> tuple[list[dict[str, Any]], int, list[tuple[float, float]]]:
    """Rows in H4's layout, the number of prompts without a pair, and the exact scores of each pair's answers."""
    made = completions.completions(
        seed,
        prompts,
        generators=[Procedural(name, _noise(name)) for name in recipe.writers],
        rater=Rater(overall_sd=recipe.rating_sd, aspect_sd=recipe.aspect_sd),
        size=require_world(recipe.world),
    )
    read = [schemas.scored_prompt(Row(number, row)) for number, row in enumerate(made.rows)]
    # The world's annotator mistypes no score: a 10 beside low ratings is its noise.
    how = Binarisation(chosen=recipe.chosen, rejected=recipe.rejected, raw_scores=True)
    rows, truth = [], []
    for outcome in binarise(read, how, seed=derive(seed, "binarise")):
        if isinstance(outcome, Pair):
            place = outcome.prompt.row.number
            rows.append(_pair_row(outcome, made.prompts[place]))
            exact = made.labels[place].exact
            truth.append((exact[outcome.chosen], exact[outcome.rejected]))
    return rows, prompts - len(rows), truth


def _pair_row(pair: Pair, prompt: WorldPrompt) -> dict[str, Any]:
    """As `data.layouts.pair_row`, with the turns before the question, which UltraFeedback's schema has no place for."""
    answers = {
        side: [*prompt.messages, {"role": "assistant", "content": pair.prompt.completions[place].response}]
        for side, place in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    text = "\n".join(message["content"] for message in prompt.messages)
    return {
        "prompt": prompt.turn.prompt,
        "prompt_id": prompt_id(text),
        **answers,
        "messages": answers["chosen"],
        "score_chosen": pair.score_chosen,
        "score_rejected": pair.score_rejected,
    }


def _numbers(**values: float | int) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _noise(name: str) -> defects.Noise:
    return getattr(defects, name.upper())


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    files.write_text(path, "".join(_lines(rows)))


def _lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


MOST_DRAWS = 50


def build_judged_pairs(
    recipe: JudgedPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write train.jsonl and test.jsonl in H4's layout; test pairs are on prompts that training lacks.

    Metrics: pairs, held_out; agreement (share of pairs whose chosen answer is worth more in truth, ties half); value of
    chosen and rejected answers, and their words, means over the training pairs.
    """
    del inputs, context
    train, truth = _judged_pairs(recipe, recipe.prompts, derive(seed, "pairs", TRAIN))
    seen = {row["prompt_id"] for row in train}
    test: list[dict[str, Any]] = []
    draw = 0
    while len(test) < recipe.held_out:
        fresh, _ = _judged_pairs(recipe, recipe.held_out, derive(seed, "pairs", TEST, draw))
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


def _judged_pairs(
    recipe: JudgedPairs, prompts: int, seed: int
) -> tuple[list[dict[str, Any]], list[tuple[float, float]]]:
    """Rows in H4's layout, and the true values of chosen and rejected answer of each."""
    made = completions.completions(
        seed,
        prompts,
        generators=[Procedural(name, getattr(defects, name.upper())) for name in recipe.writers],
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
            found.append(_judged_row(outcome, made.prompts[place]))
            truth.append((values[place][outcome.chosen], values[place][outcome.rejected]))
    return found, truth


def on_the_scale(points: float) -> float:
    """Points as a score from 0 to 10, in the same order: the layout allows no other, and a judge may go beyond."""
    return 10 / (1 + math.exp(-points / 5))


def _judged_row(pair: Pair, prompt: Prompt) -> dict[str, Any]:
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
