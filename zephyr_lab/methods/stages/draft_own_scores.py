"""Rows scored by a rule of one's own, made of what `draft_row_scores` measured. No model and no torch."""

import math
from numbers import Real
from pathlib import Path

from zephyr_lab.core import files
from zephyr_lab.engine import own_code
from zephyr_lab.methods.recipes.draft_data import OwnScores


def build(recipe: OwnScores, *, seed: int, inputs: dict[str, Path], out: Path, context: object) -> dict[str, float]:
    """Write the scores of `inputs["scores"]` with the rule's value of each row's (shift, loss) in place of the shift.

    A selection of the largest shift then keeps the rows of the rule's highest values. Metrics: rows, mean_score. Raises
    ValueError, naming the row, for a value that is no finite number.
    """
    del seed, context
    rule = own_code.restored(recipe.rule)
    scores = files.read_json(inputs["scores"] / "scores.json")
    values = []
    for id, shift, loss in zip(scores["id"], scores["shift"], scores["loss"], strict=True):
        value = rule(shift, loss)
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(
                f"{own_code.name_of(recipe.rule)} gave {value!r} for row {id} (shift {shift:.4g}, loss {loss:.4g}); a "
                "score must be a finite number"
            )
        values.append(float(value))
    files.write_json(out / "scores.json", {**scores, "shift": values})
    return {"rows": float(len(values)), "mean_score": sum(values) / len(values)}
