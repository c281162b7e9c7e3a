"""Real dialogues and preference pairs as stages: train.jsonl and test.jsonl drawn from sets of the hub.

The files have the layouts that `world_data` writes for the world, so the trainings do not tell the two apart.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zephyr_lab.core import files
from zephyr_lab.core.rows import BadRow, Row
from zephyr_lab.core.seeds import derive
from zephyr_lab.data import schemas
from zephyr_lab.data.file_steps import write_rows
from zephyr_lab.data.hub import Hub
from zephyr_lab.data.pairs import Binarisation, Pair, binarise, pair_row
from zephyr_lab.data.sources import Source, usable
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.methods.recipes.data import HubDialogues, HubPairs
from zephyr_lab.methods.stages.world_data import filtered


def build_dialogues(
    recipe: HubDialogues, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write dialogues of the set, filtered, and filters.json. Metrics: rows drawn, kept, unusable, of training.

    Raises OSError where the hub cannot be reached, ValueError where no row is usable or the filters keep none.
    """
    del inputs, context
    source = Hub(recipe.id, recipe.revision)
    counts: dict[str, Any] = {}
    for split, theirs, count in ((TRAIN, recipe.train, recipe.rows), (TEST, recipe.test, recipe.held_out)):
        drawn, unusable = _draw(source, theirs, schemas.dialogue, count, derive(seed, "dialogues", split))
        kept, counts[split] = filtered(drawn, recipe.filters)
        counts[split]["unusable"] = len(unusable)
        write_rows(out / f"{split}.jsonl", kept)
    files.write_json(out / "filters.json", counts)
    return {name: float(counts[TRAIN][name]) for name in ("rows", "kept", "unusable")}


def build_pairs(
    recipe: HubPairs, *, seed: int, inputs: dict[str, Path], out: Path, context: object
) -> dict[str, float]:
    """Write pairs of the set in H4's layout, the test on prompts of its own.

    Metrics: prompts, pairs, no_pair, unusable, mean scores of both sides; tens_read_as_one and doubtful_tens (overall
    scores of 10 beside low ratings, see `data.pairs`), identical (pairs of one text). Raises as
    `build_dialogues`.
    """
    del inputs, context
    source = Hub(recipe.id, recipe.revision)
    wanted = recipe.rows + recipe.held_out
    drawn, unusable = _draw(source, recipe.split, schemas.scored_prompt, wanted, derive(seed, "pairs"))
    rules = Binarisation(chosen=recipe.chosen, rejected=recipe.rejected)
    outcomes = list(binarise(drawn, rules, seed=derive(seed, "binarise")))
    pairs = [one for one in outcomes if isinstance(one, Pair)]
    kept = [pair for pair in pairs if pair.score_chosen <= recipe.most_chosen]
    held_out = kept[: recipe.held_out]
    asked = {pair.prompt.messages for pair in held_out}
    train = [pair for pair in kept[recipe.held_out :] if pair.prompt.messages not in asked]
    if not train:
        raise ValueError(f"{source.name} gave {len(kept)} pairs, none beyond the {recipe.held_out} held out")
    write_rows(out / f"{TRAIN}.jsonl", map(pair_row, train))
    write_rows(out / f"{TEST}.jsonl", map(pair_row, held_out))
    return {
        "prompts": float(len(drawn)),
        "pairs": float(len(train)),
        "no_pair": float(len(drawn) - len(pairs)),
        "unusable": float(len(unusable)),
        "score_chosen": sum(pair.score_chosen for pair in train) / len(train),
        "score_rejected": sum(pair.score_rejected for pair in train) / len(train),
        "tens_read_as_one": float(sum(one.tens.meant_as_one for one in outcomes)),
        "doubtful_tens": float(sum(one.tens.doubtful for one in outcomes)),
        "identical": float(sum(pair.is_identical for pair in train)),
    }


def _draw(
    source: Source, split: str, read: Callable[[Row], Any], count: int, seed: int
) -> tuple[list[Any], list[BadRow]]:
    """`count` usable rows in random order, all where there are fewer, and the unusable ones."""
    good, bad = usable(source, split, read)
    return random.Random(seed).sample(good, min(count, len(good))), bad
