"""Noise of the overall rating, and what it does to pairs: how often the chosen answer is truly better."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from zephyr_lab.core.rows import Row
from zephyr_lab.data.pairs import Binarisation, Pair, binarise
from zephyr_lab.data.schemas import ScoredPrompt, scored_prompt
from zephyr_lab.lab import numbers
from zephyr_lab.reporting import tables
from zephyr_lab.world.completions import Completions
from zephyr_lab.world.judge import Verdict, grade
from zephyr_lab.world.ratings import Rater


def true_order(sets: Sequence[Completions], raters: Mapping[str, Rater]) -> pd.DataFrame:
    """How often the chosen answer of a pair is truly the better one, by the rater whose overall score it was chosen by.

    The answers of `sets` are rated anew by each rater. Chosen: highest overall score; rejected: random. Metrics, in
    percent: "better" of the pairs whose exact scores differ, and "equal", of all pairs. A tidy frame with the rater's
    noise as column x.
    """
    graded = [(_read(made), _verdicts(made)) for made in sets]
    rows = []
    for name, rater in raters.items():
        pairs = [one for place, given in enumerate(graded) for one in _exact_pairs(*given, rater=rater, seed=place)]
        differing = [(best, other) for best, other in pairs if best != other]
        better = sum(best > other for best, other in differing)
        rows.append(numbers.share(name, "better", better, len(differing), of="pairs that differ"))
        rows.append(numbers.share(name, "equal", len(pairs) - len(differing), len(pairs), of="pairs"))
    return tables.frame(rows).assign(x=[rater.overall_sd for rater in raters.values() for _ in range(2)])


def order_curve(order: pd.DataFrame) -> pd.DataFrame:
    """The metric "better" of `true_order` as a line over the planted noise, for `figures.curves`."""
    better = order[order["metric"] == "better"]
    return better.rename(columns={"value": "y"}).assign(series="chosen is better")[
        ["series", "kind", "x", "y", "low", "high"]
    ]


def _read(made: Completions) -> list[ScoredPrompt]:
    return [scored_prompt(Row(number, row)) for number, row in enumerate(made.rows, start=1)]


def _verdicts(made: Completions) -> list[list[Verdict]]:
    """The exact verdicts on the completions of each row."""
    return [
        [grade(prompt.turn, completion["response"]) for completion in row["completions"]]
        for prompt, row in zip(made.prompts, made.rows, strict=True)
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
                for place, (one, verdict) in enumerate(zip(prompt.completions, given, strict=True))
            ),
        )
        for number, (prompt, given) in enumerate(zip(asked, verdicts, strict=True))
    ]
    outcomes = binarise(rated, Binarisation(chosen="overall_score", rejected="random", raw_scores=True), seed=seed)
    return [
        (given[pair.chosen].exact, given[pair.rejected].exact)
        for pair, given in zip(outcomes, verdicts, strict=True)
        if isinstance(pair, Pair)
    ]
