"""A share of a draft's training rows, by the scores of `draft_row_scores`. No model and no torch."""

from pathlib import Path

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import stage_rows
from zephyr_lab.methods.recipes.draft_data import LOSS_TOP, RANDOM, SHIFT_BOTTOM, SHIFT_TOP, Selection
from zephyr_lab.methods.stages.draft_data import TEST, TRAIN, write_rows
from zephyr_lab.scoring import representation_shift as shift

COLUMNS = {SHIFT_TOP: "shift", SHIFT_BOTTOM: "shift", RANDOM: "shift", LOSS_TOP: "loss"}  # of scores.json
ENDS = {SHIFT_TOP: shift.TOP, SHIFT_BOTTOM: shift.BOTTOM, RANDOM: shift.RANDOM, LOSS_TOP: shift.TOP}


def build(recipe: Selection, *, seed: int, inputs: dict[str, Path], out: Path, context: object) -> dict[str, float]:
    """Write the selected training rows of `inputs["data"]`, by `inputs["scores"]`, and all its test rows.

    Metrics: rows, and the mean score of the rows kept. Raises ValueError where scores and rows do not match.
    """
    del context
    rows = {split: stage_rows(inputs["data"], split) for split in (TRAIN, TEST)}
    scores = files.read_json(inputs["scores"] / "scores.json")
    if scores["id"] != [row.get("id") for row in rows[TRAIN]]:
        raise ValueError("the scores belong to other rows than those to select from")
    ranked = scores[COLUMNS[recipe.rule]]
    places = shift.select(ranked, share=recipe.share, rule=ENDS[recipe.rule], seed=derive(seed, "selection"))
    write_rows(out / f"{TRAIN}.jsonl", [rows[TRAIN][place] for place in places])
    write_rows(out / f"{TEST}.jsonl", rows[TEST])
    return {"rows": float(len(places)), "mean_score": sum(ranked[place] for place in places) / len(places)}
