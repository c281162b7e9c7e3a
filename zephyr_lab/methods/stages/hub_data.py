"""Real dialogues and preference pairs as stages: train.jsonl and test.jsonl drawn from sets of the hub.

The files have the layouts that `world_data` writes for the world, so the trainings do not tell the two apart.
"""

import json
import random
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.core.row_types import BadRow
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import schemas
from zephyr_lab.data.filters import counts_for, named_rules, run_rules
from zephyr_lab.data.filters_casing import learn_forms
from zephyr_lab.data.hub import Hub
from zephyr_lab.data.layouts import dialogue_row, pair_row
from zephyr_lab.data.pairs import Binarisation, Pair, binarise
from zephyr_lab.data.sources import Source, usable
from zephyr_lab.methods.recipes.data import HubDialogues, HubPairs

TRAIN, TEST = "train", "test"


def build_dialogues(
    recipe: HubDialogues, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write dialogues of the set, filtered, and filters.json. Metrics: rows drawn, kept, unusable, of training.

    Raises OSError where the hub cannot be reached, ValueError where no row is usable or the filters keep none.
    """
    del inputs, context
    source = Hub(recipe.id, recipe.revision)
    found: dict[str, Any] = {}
    for split, theirs, count in ((TRAIN, recipe.train, recipe.rows), (TEST, recipe.test, recipe.held_out)):
        drawn, unusable = _draw(source, theirs, schemas.dialogue, count, derive(seed, "dialogues", split))
        rules = named_rules(recipe.filters, forms=learn_forms(_answers(drawn))) if recipe.filters else []
        counts, kept = counts_for(rules), []
        for verdict in run_rules(drawn, rules):
            counts.add(verdict)
            if verdict.kept:
                kept.append(dialogue_row(verdict.dialogue, verdict.texts))
        if not kept:
            raise ValueError(f"the filters {', '.join(recipe.filters)} keep none of {len(drawn)} dialogues")
        _write(out / f"{split}.jsonl", kept)
        found[split] = asdict(counts) | {"unusable": len(unusable)}
    files.write_json(out / "filters.json", found)
    return {name: float(found[TRAIN][name]) for name in ("rows", "kept", "unusable")}


def build_pairs(
    recipe: HubPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write pairs of the set in H4's layout, the test on prompts of its own.

    Metrics: prompts, pairs, no_pair, unusable, mean scores of both sides; tens_read_as_one and doubtful_tens (overall
    scores of 10 beside low ratings, see `data.score_repair`), identical (pairs of one text). Raises as
    `build_dialogues`.
    """
    del inputs, context
    wanted = recipe.rows + recipe.held_out
    source = Hub(recipe.id, recipe.revision)
    drawn, unusable = _draw(source, recipe.split, schemas.scored_prompt, wanted, derive(seed, "pairs"))
    how = Binarisation(chosen=recipe.chosen, rejected=recipe.rejected)
    outcomes = list(binarise(drawn, how, seed=derive(seed, "binarise")))
    made = [one for one in outcomes if isinstance(one, Pair)]
    kept = [pair for pair in made if pair.score_chosen <= recipe.most_chosen]
    held_out = kept[: recipe.held_out]
    asked = {pair.prompt.messages for pair in held_out}
    train = [pair for pair in kept[recipe.held_out :] if pair.prompt.messages not in asked]
    if not train:
        raise ValueError(f"{source.name} gave {len(kept)} pairs, none beyond the {recipe.held_out} held out")
    _write(out / f"{TRAIN}.jsonl", map(pair_row, train))
    _write(out / f"{TEST}.jsonl", map(pair_row, held_out))
    return {
        "prompts": float(len(drawn)),
        "pairs": float(len(train)),
        "no_pair": float(len(drawn) - len(made)),
        "unusable": float(len(unusable)),
        "score_chosen": sum(pair.score_chosen for pair in train) / len(train),
        "score_rejected": sum(pair.score_rejected for pair in train) / len(train),
        "tens_read_as_one": float(sum(one.tens.meant_as_one for one in outcomes)),
        "doubtful_tens": float(sum(one.tens.doubtful for one in outcomes)),
        "identical": float(sum(pair.is_identical for pair in train)),
    }


def _draw(source: Source, split: str, read: Any, count: int, seed: int) -> tuple[list[Any], list[BadRow]]:
    """`count` usable rows in random order, all where there are fewer, and the unusable ones."""
    good, bad = usable(source, split, read)
    return random.Random(seed).sample(good, min(count, len(good))), bad


def _answers(dialogues: Iterable[schemas.Dialogue]) -> Iterable[str]:
    return (text for dialogue in dialogues for _, text in dialogue.answers())


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    files.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
