"""The data of dSFT and dDPO as stages: train.jsonl and test.jsonl, in the published sets' layouts.

Drawn from the embedded world here; a folder with the same files from anywhere else serves the trainings as well. No
model and no torch.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.core.rows import Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import schemas
from zephyr_lab.data.file_steps import write_rows
from zephyr_lab.data.filters import counts_for, named_rules, run_rules
from zephyr_lab.data.filters_answers import learn_forms
from zephyr_lab.data.pairs import Binarisation, Pair, binarise
from zephyr_lab.data.schemas import dialogue_row, prompt_id
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods.recipes.data import JudgedPairs, WorldDialogues, WorldPairs
from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.world import answers, completions, dialogues
from zephyr_lab.world.completions import Completions, Procedural, Prompt
from zephyr_lab.world.judge import grade, value
from zephyr_lab.world.ratings import Rater

MOST_DRAWS = 50
# Pairs as rows, and the true worth of the chosen and the rejected answer of each.
Drawn = tuple[list[dict[str, Any]], list[tuple[float, float]]]


def build_dialogues(
    recipe: WorldDialogues, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write filtered dialogues of the world to `out`, with filters.json: the counts of each rule.

    Metrics: rows drawn, kept, and found_<rule> (dialogues) for the training split.
    """
    del inputs, context  # drawn from the seed alone, in a second
    counts = {}
    for split, count in ((TRAIN, recipe.rows), (TEST, recipe.held_out)):
        drawn = dialogues.dialogues(
            derive(seed, "dialogues", split),
            count,
            noise=getattr(answers, recipe.noise.upper()),
            duplicates=recipe.duplicates,
            size=require_world(recipe.world),
        )
        read = [schemas.dialogue(Row(number, row)) for number, row in enumerate(drawn.rows, start=1)]
        kept, counts[split] = filtered(read, recipe.filters)
        write_rows(out / f"{split}.jsonl", kept)
    files.write_json(out / "filters.json", counts)
    rules = {f"found_{name}": float(count["dialogues"]) for name, count in counts[TRAIN]["rules"].items()}
    return {"rows": float(counts[TRAIN]["rows"]), "kept": float(counts[TRAIN]["kept"]), **rules}


def build_pairs(
    recipe: WorldPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write preference pairs of the world to `out` in H4's layout: prompt, prompt_id, chosen, rejected, messages.

    `messages` repeats the chosen dialogue, so the same files serve supervised fine-tuning. Test pairs are on prompts
    that training lacks. Metrics: prompts, pairs, held_out, no_pair (prompts whose answers gave none), agreement (share
    of pairs whose chosen answer is better in truth, ties half), and the mean exact scores of both sides.
    """
    del inputs, context

    def draw(prompts: int, seed: int, _: str) -> Drawn:
        drawn = scored_completions(recipe, prompts, seed)
        read = [schemas.scored_prompt(Row(number, row)) for number, row in enumerate(drawn.rows)]
        # The world's annotator mistypes no score: a 10 beside low ratings is its noise.
        rules = Binarisation(chosen=recipe.chosen, rejected=recipe.rejected, raw_scores=True)
        pairs = [pair for pair in binarise(read, rules, seed=derive(seed, "binarise")) if isinstance(pair, Pair)]
        numbers = [pair.prompt.row.number for pair in pairs]
        exact = [drawn.labels[number].exact for number in numbers]
        return (
            [pair_row(pair, drawn.prompts[number]) for pair, number in zip(pairs, numbers, strict=True)],
            [(scores[pair.chosen], scores[pair.rejected]) for pair, scores in zip(pairs, exact, strict=True)],
        )

    return pair_metrics(recipe, *write_splits(recipe, draw, out, seed))


def build_judged_pairs(
    recipe: JudgedPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Pairs labelled by one objective of the judge: the data half of a change of objective.

    The same prompts and the same four answers a prompt as `build_pairs` draws under the same seed; only the scores that
    the pairs are made from are others. Metrics: pairs, held_out; agreement (share of pairs whose chosen answer is worth
    more in truth, ties half); value of chosen and rejected answers, and their words, means over the training pairs.
    """
    del inputs, context
    rows, truth = write_splits(recipe, lambda prompts, seed, _: _judged_pairs(recipe, prompts, seed), out, seed)
    return {
        "pairs": float(len(rows)),
        "held_out": float(recipe.held_out),
        "agreement": _agreement(truth),
        "value_chosen": _mean([chosen for chosen, _ in truth]),
        "value_rejected": _mean([rejected for _, rejected in truth]),
        "words_chosen": _mean([len(row["chosen"][-1]["content"].split()) for row in rows]),
        "words_rejected": _mean([len(row["rejected"][-1]["content"].split()) for row in rows]),
    }


def filtered(
    dialogues: Sequence[schemas.Dialogue], names: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows that the rules called `names` keep, repaired where a rule repairs, and the counts as plain values.

    Raises ValueError where they keep none.
    """
    forms = learn_forms(text for dialogue in dialogues for _, text in dialogue.answers())
    rules = named_rules(names, forms=forms) if names else []
    counts, kept = counts_for(rules), []
    for verdict in run_rules(dialogues, rules):
        counts.add(verdict)
        if verdict.kept:
            kept.append(dialogue_row(verdict.dialogue, verdict.texts))
    if not kept:
        raise ValueError(f"the filters {', '.join(names)} keep none of {len(dialogues)} dialogues")
    return kept, asdict(counts)


def scored_completions(recipe: WorldPairs, prompts: int, seed: int) -> Completions:
    """Answers of the recipe's writers to `prompts` prompts, with noisy ratings."""
    return completions.completions(
        seed,
        prompts,
        generators=[Procedural(name, getattr(answers, name.upper())) for name in recipe.writers],
        rater=Rater(overall_sd=recipe.rating_sd, aspect_sd=recipe.aspect_sd),
        size=require_world(recipe.world),
    )


def write_splits(recipe: WorldPairs, draw: Callable[[int, int, str], Drawn], out: Path, seed: int) -> Drawn:
    """Write the training and test pairs that `draw(prompts, seed, name of the draw)` gives; returns those of training.

    Raises ValueError where the world has too few prompts beyond those of training.
    """
    rows, truth = draw(recipe.prompts, derive(seed, "pairs", TRAIN), TRAIN)
    if not rows:
        raise ValueError(f"the rule makes no pair of {recipe.prompts} prompts")
    seen = {row["prompt_id"] for row in rows}
    test: list[dict[str, Any]] = []
    for number in range(MOST_DRAWS):  # some prompts of a small world come again and are left out
        fresh, _ = draw(recipe.held_out, derive(seed, "pairs", TEST, number), f"{TEST} draw {number}")
        test += [row for row in fresh if row["prompt_id"] not in seen]
        if len(test) >= recipe.held_out:
            break
    else:
        raise ValueError(
            f"the {recipe.world} world gives {len(test)} pairs on prompts beyond those of training, held_out is "
            f"{recipe.held_out}; take fewer, or a larger world"
        )
    write_rows(out / f"{TRAIN}.jsonl", rows)
    write_rows(out / f"{TEST}.jsonl", test[: recipe.held_out])
    return rows, truth


def pair_metrics(recipe: WorldPairs, rows: Sequence[Any], truth: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The metrics of `build_pairs`."""
    return {
        "prompts": float(recipe.prompts),
        "pairs": float(len(rows)),
        "held_out": float(recipe.held_out),
        "no_pair": float(recipe.prompts - len(rows)),
        "agreement": _agreement(truth),
        "exact_chosen": _mean([chosen for chosen, _ in truth]),
        "exact_rejected": _mean([rejected for _, rejected in truth]),
    }


def pair_row(pair: Pair, prompt: Prompt) -> dict[str, Any]:
    """As `data.schemas.pair_row`, with the turns before the question, which UltraFeedback's schema has no place for."""
    sides = {
        side: [*prompt.messages, {"role": "assistant", "content": pair.prompt.completions[place].response}]
        for side, place in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    return {
        "prompt": prompt.turn.prompt,
        "prompt_id": prompt_id("\n".join(message["content"] for message in prompt.messages)),
        **sides,
        "messages": sides["chosen"],
        "score_chosen": pair.score_chosen,
        "score_rejected": pair.score_rejected,
    }


def _judged_pairs(recipe: JudgedPairs, prompts: int, seed: int) -> Drawn:
    drawn = completions.completions(
        seed,
        prompts,
        generators=[Procedural(name, getattr(answers, name.upper())) for name in recipe.writers],
        size=require_world(recipe.world),
    )
    rng = random.Random(derive(seed, "judge"))
    values, read = [], []
    for number, (row, prompt) in enumerate(zip(drawn.rows, drawn.prompts, strict=True)):
        true = [value(grade(prompt.turn, one["response"]), recipe.objective) for one in row["completions"]]
        values.append(true)
        scored = [
            {**one, "overall_score": on_the_scale(exact + rng.gauss(0.0, recipe.judge_sd))}
            for one, exact in zip(row["completions"], true, strict=True)
        ]
        read.append(schemas.scored_prompt(Row(number, {**row, "completions": scored})))
    # These scores are the objective's; the ratings in the rows are another judge's and say nothing of them.
    rules = Binarisation(chosen="overall_score", rejected=recipe.rejected, raw_scores=True)
    rows, truth = [], []
    for pair in binarise(read, rules, seed=derive(seed, "binarise")):
        if isinstance(pair, Pair):
            number = pair.prompt.row.number
            rows.append(pair_row(pair, drawn.prompts[number]))
            truth.append((values[number][pair.chosen], values[number][pair.rejected]))
    return rows, truth


def on_the_scale(points: float) -> float:
    """Points as a score from 0 to 10, in the same order: the layout allows no other, and a judge may go beyond."""
    return 10 / (1 + math.exp(-points / 5))


def _agreement(truth: Sequence[tuple[float, float]]) -> float:
    """The share of pairs whose chosen answer is the better one in truth, ties half."""
    return _mean([(chosen > rejected) + (chosen == rejected) / 2 for chosen, rejected in truth])


def _mean(numbers: Sequence[float | int]) -> float:
    return sum(numbers) / len(numbers)
