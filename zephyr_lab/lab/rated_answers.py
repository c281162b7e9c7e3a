"""Answers of several writers as one frame, and what is counted of it: means, scores, correlations of the aspects.

Rows are drawn under seeds 0 to N-1 and pooled; intervals are over rows.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from zephyr_lab.lab import numbers
from zephyr_lab.reporting import tables
from zephyr_lab.world.completions import Completions
from zephyr_lab.world.judge import grade
from zephyr_lab.world.ratings import ASPECTS, true_aspects

SCORES = range(1, 11)


def frame(sets: Sequence[Completions]) -> pd.DataFrame:
    """One row an answer: writer, exact, overall, words, the four aspects as rated (NaN for N/A), and as they truly are
    ("true honesty" and so on)."""
    return pd.DataFrame([row for made in sets for row in _answers(made)])


def means(answers: pd.DataFrame, writers: Sequence[str]) -> pd.DataFrame:
    """Means of each of `writers`: exact score, overall rating, words, the four aspects."""
    measured = {"exact": "exact", "overall": "overall", "words": "words"} | {name: name for name in ASPECTS}
    return tables.frame(
        numbers.mean(writer, metric, answers.loc[answers["writer"] == writer, column].dropna(), of="answers")
        for writer in writers
        for metric, column in measured.items()
    )


def histograms(answers: pd.DataFrame, writers: Sequence[str]) -> pd.DataFrame:
    """Share of each writer's answers at each score 1 to 10, to the nearest point: metrics "exact" and "overall".

    A tidy frame with rows "strong, 10" and two more columns, writer and score.
    """
    rows, places = [], []
    for writer in writers:
        own = answers[answers["writer"] == writer]
        for metric in ("exact", "overall"):
            nearest = (own[metric] + 0.5).astype(int)
            for score in SCORES:
                hits = int((nearest == score).sum())
                rows.append(numbers.share(f"{writer}, {score}", metric, hits, len(own), of="answers"))
                places.append((writer, score))
    return tables.frame(rows).assign(writer=[name for name, _ in places], score=[score for _, score in places])


def correlations(answers: pd.DataFrame, *, true: bool = False) -> pd.DataFrame:
    """Correlations between the aspects, the exact score and the length, over answers; `true`: without rating noise.

    A rating "N/A" leaves its answer out of its pairs. One line a pair, the later variable as row.
    """
    columns = {name: f"true {name}" if true else name for name in ASPECTS} | {"exact": "exact", "words": "words"}
    names = list(columns)
    rows = []
    for place, row in enumerate(names):
        for metric in names[:place]:
            both = answers[[columns[row], columns[metric]]].dropna()
            ours, theirs = both.iloc[:, 0].to_numpy(), both.iloc[:, 1].to_numpy()
            rows.append(numbers.correlation(row, metric, ours, theirs, of="answers"))
    return tables.frame(rows)


def _answers(made: Completions) -> Iterator[dict[str, Any]]:
    for prompt, row in zip(made.prompts, made.rows, strict=True):
        for completion in row["completions"]:
            verdict = grade(prompt.turn, completion["response"])
            rated = {name: completion["annotations"][name]["Rating"] for name in ASPECTS}
            yield {
                "writer": completion["model"],
                "exact": verdict.exact,
                "overall": completion["overall_score"],
                "words": verdict.words,
                **{name: float(rating) if rating.isdigit() else float("nan") for name, rating in rated.items()},
                **{f"true {name}": value for name, value in true_aspects(verdict).items()},
            }
