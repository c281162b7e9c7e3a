"""Scores of evaluated models as tidy frames: means, differences and win rates, each with its interval.

A model's number on one seed is a mean over all questions of the benchmark. Its interval is over seeds and questions
(`scoring.two_way`), of differences paired by both where two models are compared. One seed alone has no such interval,
and neither have equal values on all seeds (a base that all of them share): tables then carry an interval over
questions, which says so. With one seed claims stay undecided.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.reporting import tables
from zephyr_lab.scoring.domain import ASPECTS
from zephyr_lab.scoring.intervals import (
    PERCENT,
    SHARE,
    Estimate,
    Interval,
    Scale,
    all_equal,
    mean_estimate,
    share_estimate,
    t_estimate,
)
from zephyr_lab.scoring.two_way import two_way_estimate

NEAR_GREEDY, HOT = "near-greedy", "hot"  # runs of `methods.stages.evaluate`
OFFICIAL = 160  # the last id of the first 80 questions, MT-Bench's size
SOURCE = "embedded world, exact judge"


@dataclass(frozen=True)
class Measure:
    """A number of a model on one seed: the mean of `column` over the answers of `run`, times `scale`.

    `metric` names it in the tidy frame. turn: 1 or 2 alone, None for both; official: the first 80 questions alone;
    within: the ends of what an answer can get, after scaling, None where it has none. domain: of the answers to the
    questions of the domain, not of the chat benchmark.
    """

    metric: str
    column: str = "score"
    run: str = NEAR_GREEDY
    turn: int | None = None
    official: bool = False
    scale: float = 1.0
    within: Scale | None = None
    domain: bool = False


JUDGED = Scale(1.0, 10.0)  # what a judge gives
SCORE = Measure("mt_bench", within=JUDGED)  # the name under which Tables 1 and 3 print theirs
HOT_SCORE = Measure("score at T = 0.7", run=HOT, within=JUDGED)
OFFICIAL_SCORE = Measure("score, 80 questions", official=True, within=JUDGED)
PARTS = CORE, EXPLANATION, STYLE, COST, WORDS = tuple(
    Measure(part, part) for part in ("core", "explanation", "style", "cost", "words")
)
DOMAIN = Measure("ecomm_eval", "domain", within=JUDGED, domain=True)  # the name under which Table 1 prints theirs
ASPECT_SCORES = tuple(Measure(name.replace("_", " "), name, within=JUDGED, domain=True) for name in ASPECTS)


def grid(answered: pd.DataFrame, model: str, measure: Measure = SCORE) -> pd.DataFrame:
    """The measure of one model: a row a seed, a column a question (mean of its turns).

    Columns have two levels: the set of questions that the benchmark asks equally many of (a category of the chat
    benchmark, a group of the domain's first turns), and the question.

    Raises ValueError for a model that was not evaluated, and for a part that the judge of the answers does not give.
    """
    known = list(dict.fromkeys(answered["model"]))
    if model not in known:
        raise ValueError(f"no answers of a model named {model!r}; there are {', '.join(known)}")
    if measure.column not in answered:
        raise ValueError(f"the judge of these answers gives no {measure.column!r}; columns: {', '.join(answered)}")
    wanted = (answered["model"] == model) & (answered["run"] == measure.run)
    if measure.turn is not None:
        wanted &= answered["turn"] == measure.turn
    if measure.official:
        wanted &= answered["question_id"] <= OFFICIAL
    chosen = answered[wanted]
    values = measure.scale * chosen[measure.column].astype(float)
    by_question = values.groupby([chosen["seed"], chosen["question_id"]]).mean().unstack()
    first = answered[answered["turn"] == 1].drop_duplicates("question_id").set_index("question_id")
    sets = first["group" if "group" in first else "category"].reindex(by_question.columns)
    return by_question.set_axis(pd.MultiIndex.from_arrays([sets, by_question.columns]), axis=1)


def wins(answered: pd.DataFrame, model: str, against: str, *, run: str = NEAR_GREEDY) -> pd.DataFrame:
    """First turns judged beside those of `against` on the same seed: 100 won, 50 drawn, 0 lost; as `grid`."""
    first = Measure("first turn", run=run, turn=1)
    return 50 * (np.sign(grid(answered, model, first) - grid(answered, against, first)) + 1)


def estimate(
    values: pd.DataFrame, *, unit: str = "seed", of: str = "questions", within: Scale | None = None
) -> Estimate:
    """The mean of a grid with its interval over rows and columns: seeds and questions, or what `unit` and `of` call
    them.

    A grid with holes, where seeds were asked different questions: t over its rows alone. One row alone, or rows of
    equal means: an interval over questions, which says so; where all questions are equal too, it needs the ends of the
    scale, `within`, and without them the ends are the value. n counts the questions.
    """
    both = two_way_estimate(values, unit=unit, of=of)
    if both is not None:
        return both
    by_seed = values.mean(axis=1).to_numpy(float)
    seeds, questions = values.shape
    if not all_equal(by_seed):
        return t_estimate(by_seed, of=f"{seeds} {unit}s", n=questions, seeds=seeds)
    alone = _over_questions(values.mean(axis=0), within)
    rows, value = f"1 {unit}" if seeds == 1 else f"{seeds} equal {unit}s", float(by_seed.mean())
    low, high = alone.interval or (value, value)
    ends = Interval(min(low, value), max(high, value))  # equal values: the last bit of a mean may fall beside them
    return Estimate(value, ends, questions, alone.method, seeds, f"{rows}: {questions} {of}")


def number(
    row: str,
    metric: str,
    values: pd.DataFrame,
    *,
    unit: str = "seed",
    of: str = "questions",
    within: Scale | None = None,
) -> dict[str, Any]:
    """A retrained number as a row of the tidy frame, from a grid of its values; arguments as `estimate`."""
    return tables.line(row, metric, "retrained", estimate(values, unit=unit, of=of, within=within), source=SOURCE)


def _over_questions(values: pd.Series, within: Scale | None) -> Estimate:
    """The mean over questions of one row, or of rows that are one."""
    asked = list(values.index)
    if within in (SHARE, PERCENT):
        return share_estimate(values, asked, seed=0, scale=within)
    return mean_estimate(values, asked, seed=0, scale=within)


def of_difference(within: Scale | None) -> Scale | None:
    """The ends of a difference of two such values."""
    return None if within is None else Scale(within.low - within.high, within.high - within.low)


def effect(claim: str, metric: str, values: pd.DataFrame, *, of: str = "questions") -> dict[str, Any]:
    """One part of a claim for `check.claims`, from a grid of differences: a row a seed, a column a question.

    `metric` is that of claims.toml, word for word; beside the columns of a tidy frame, "squares" says what it varies
    by, from which `check.claims` has the p-value. One seed gives no interval, so the verdict stays open. Equal seeds
    leave the questions to vary; where these are equal too the effect decides as a count does.
    """
    measured = estimate(values, of=of)
    line = tables.line(claim, metric, "retrained", measured, source=SOURCE) | {"squares": measured.squares}
    return line if len(values) > 1 else {**line, "low": None, "high": None}


def effects(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The frame that `check.claims` takes, of rows of `effect`."""
    return pd.DataFrame([dict(row) for row in rows])
