"""Answers of several writers as one frame, and what is counted of it: means, scores, correlations of the aspects.

Rows are drawn under seeds 0 to N-1 and pooled; intervals are over rows.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from zephyr_lab.core.rows import Row
from zephyr_lab.data.pairs import Binarisation, Pair, binarise
from zephyr_lab.data.schemas import ScoredPrompt, scored_prompt
from zephyr_lab.lab import numbers
from zephyr_lab.reporting import tables
from zephyr_lab.world.completions import Completions
from zephyr_lab.world.judge import Verdict, grade
from zephyr_lab.world.ratings import ASPECTS, Rater, true_aspects

SCORES = range(1, 11)


def frame(sets: Sequence[Completions]) -> pd.DataFrame:
    """One row an answer: writer, exact, overall, words, the four aspects as rated (NaN for N/A), and as they truly are
    ("true honesty" and so on)."""
    return pd.DataFrame([row for drawn in sets for row in _answers(drawn)])


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


def _answers(drawn: Completions) -> Iterator[dict[str, Any]]:
    for prompt, row in zip(drawn.prompts, drawn.rows, strict=True):
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


def true_order(sets: Sequence[Completions], raters: Mapping[str, Rater]) -> pd.DataFrame:
    """How often the chosen answer of a pair is truly the better one, by the rater whose overall score it was chosen by.

    The answers of `sets` are rated anew by each rater. Chosen: highest overall score; rejected: random. Metrics, in
    percent: "better" of the pairs whose exact scores differ, and "equal", of all pairs. A tidy frame with the rater's
    noise as column x.
    """
    graded = [(_read(drawn), _verdicts(drawn)) for drawn in sets]
    rows = []
    for name, rater in raters.items():
        pairs = [one for seed, prompts in enumerate(graded) for one in _exact_pairs(*prompts, rater=rater, seed=seed)]
        differing = [(best, other) for best, other in pairs if best != other]
        better = sum(best > other for best, other in differing)
        rows.append(numbers.share(name, "better", better, len(differing), of="pairs that differ"))
        rows.append(numbers.share(name, "equal", len(pairs) - len(differing), len(pairs), of="pairs"))
    return tables.frame(rows).assign(x=[rater.overall_sd for rater in raters.values() for _ in range(2)])


def order_curve(order: pd.DataFrame) -> pd.DataFrame:
    """The metric "better" of `true_order` as a line over the planted noise, for `figures.curves`."""
    line = order[order["metric"] == "better"].rename(columns={"value": "y"}).assign(series="chosen is better")
    return line[["series", "kind", "x", "y", "low", "high"]]


def _read(drawn: Completions) -> list[ScoredPrompt]:
    return [scored_prompt(Row(number, row)) for number, row in enumerate(drawn.rows, start=1)]


def _verdicts(drawn: Completions) -> list[list[Verdict]]:
    """The exact verdicts on the completions of each row."""
    return [
        [grade(prompt.turn, completion["response"]) for completion in row["completions"]]
        for prompt, row in zip(drawn.prompts, drawn.rows, strict=True)
    ]


def _exact_pairs(
    asked: Sequence[ScoredPrompt], verdicts: Sequence[Sequence[Verdict]], *, rater: Rater, seed: int
) -> list[tuple[float, float]]:
    """Exact scores of the chosen and the rejected answer of each pair, chosen by fresh ratings of `rater`.

    The same errors are drawn for every rater and only scaled, so that a curve over their noise does not jump by chance.
    """
    rated = [
        replace(
            prompt,
            completions=tuple(
                # a generator an answer: one more draw for one answer must not shift the errors of the next
                replace(one, overall_score=rater.overall(random.Random(f"rating {seed} {number} {place}"), verdict))
                for place, (one, verdict) in enumerate(zip(prompt.completions, graded, strict=True))
            ),
        )
        for number, (prompt, graded) in enumerate(zip(asked, verdicts, strict=True))
    ]
    outcomes = binarise(rated, Binarisation(chosen="overall_score", rejected="random", raw_scores=True), seed=seed)
    return [
        (graded[pair.chosen].exact, graded[pair.rejected].exact)
        for pair, graded in zip(outcomes, verdicts, strict=True)
        if isinstance(pair, Pair)
    ]
