"""MT-Bench scores from judgments: pooled mean, turns, categories, with intervals over the 80 questions.

FastChat's `show_result`: judgments without a score are dropped, and the mean pools the rows of both turns; a row
judged twice counts twice. Two conventions are in print, so `unparsed` says which one is meant: LMSYS's table of
June 2023, from which papers copy, counted -1 as a score ("keep").
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from zephyr_lab.scoring.intervals import RESAMPLES, Estimate, Scale, mean_estimate
from zephyr_lab.scoring.judgments import CATEGORIES, TURNS, UNPARSED, Judgment

CONVENTIONS = ("drop", "keep")
GIVEN = Scale(UNPARSED, 10.0)  # what a row may hold: the judge's 1 to 10, scores below it, -1 where it counts


@dataclass(frozen=True, slots=True)
class ModelScore:
    """A model's scores. Of all judgments, `rows`, `unparsed` have no score, and `below_scale` give less than the 1 that
    the judge may; `judged_twice` counts the cells (question and turn) with more than one. `disagreeing` are those
    whose stored score, which counts, is not the one in the text."""

    mean: Estimate
    turn_1: Estimate
    turn_2: Estimate
    categories: dict[str, Estimate]
    rows: int
    unparsed: int
    below_scale: int
    judged_twice: int
    judges: tuple[str, ...]
    disagreeing: tuple[Judgment, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values; the interval is that of the mean, and `interval_method` what it is, or why there is none."""
        return {
            "turn_1": self.turn_1.value,
            "turn_2": self.turn_2.value,
            "mean": self.mean.value,
            "n": self.mean.n,
            "unparsed": self.unparsed,
            "categories": {name: estimate.value for name, estimate in self.categories.items()},
            "interval": self.mean.interval,
            "interval_method": self.mean.method,
            "rows": self.rows,
            "below_scale": self.below_scale,
            "judged_twice": self.judged_twice,
            "judges": self.judges,
            "disagreements": [
                {"question_id": row.question_id, "turn": row.turn, "score": row.score, "in_text": row.in_text}
                for row in self.disagreeing
            ],
        }


def score(
    judgments: list[Judgment], *, unparsed: str, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, ModelScore]:
    """The scores of each model, in the order in which the models first appear.

    `unparsed` is "drop" (FastChat's show_result) or "keep" (-1 counts as a score). Raises ValueError for another.
    """
    require_convention(unparsed)
    by_model: dict[str, list[Judgment]] = {}
    for judgment in judgments:
        by_model.setdefault(judgment.model, []).append(judgment)
    return {model: _model_score(rows, unparsed, seed, resamples) for model, rows in by_model.items()}


def require_convention(unparsed: str) -> None:
    """Raises ValueError for another than "drop" and "keep"."""
    if unparsed not in CONVENTIONS:
        raise ValueError(f"unparsed must be 'drop' or 'keep', got {unparsed!r}")


def _model_score(rows: list[Judgment], unparsed: str, seed: int, resamples: int) -> ModelScore:
    counted = [row for row in rows if unparsed == "keep" or row.score != UNPARSED]
    present = {row.category for row in rows}
    turns = [_mean([row for row in counted if row.turn == turn], seed, resamples) for turn in TURNS]
    categories = {
        name: _mean([row for row in counted if row.category == name], seed, resamples)
        for name in CATEGORIES
        if name in present
    }
    return ModelScore(
        mean=_mean(counted, seed, resamples),
        turn_1=turns[0],
        turn_2=turns[1],
        categories=categories,
        rows=len(rows),
        unparsed=sum(row.score == UNPARSED for row in rows),
        below_scale=sum(0 <= row.score < 1 for row in rows),
        judged_twice=sum(count > 1 for count in Counter((row.question_id, row.turn) for row in rows).values()),
        judges=tuple(sorted({row.judge for row in rows if row.judge})),
        disagreeing=tuple(row for row in rows if row.disagrees),
    )


def _mean(rows: list[Judgment], seed: int, resamples: int) -> Estimate:
    questions = [row.question_id for row in rows]
    return mean_estimate([row.score for row in rows], questions, seed=seed, resamples=resamples, scale=GIVEN)
