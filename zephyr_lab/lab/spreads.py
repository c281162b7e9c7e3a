"""How much mean scores vary: over trainings, askings and judgings, and what so few of them can resolve.

Standard deviations as lines of the tidy frame, with chi-square intervals; a ratio of two as an effect, with an F one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab.answers import Answers
from zephyr_lab.reporting import tables
from zephyr_lab.scoring import spread
from zephyr_lab.world.benchmark import Question
from zephyr_lab.world.judge import RubricJudge

DEVIATION = "standard deviation"


def deviations(answers: Answers, arms: Iterable[str], *, metric: str = DEVIATION, of: str = "seeds") -> pd.DataFrame:
    """Tidy frame of the standard deviation of each arm's mean score over seeds, or what `of` calls them; no row for one
    seed alone, or for equal means."""
    return tables.frame(line for arm in arms for line in _lines(arm, metric, by_seed(answers, arm), of))


def judged_again(
    answers: Answers, arms: Iterable[str], questions: Iterable[Question], *, times: int, sd: float
) -> pd.DataFrame:
    """As `deviations`, over judges with error `sd` on each answer, as a language model has, who all read one model's
    answers: those of seed 0 to `questions`."""
    turns = {question.question_id: question.turns for question in questions}
    rows = []
    for arm in arms:
        own = answers.frame
        own = own[(own["model"] == arm) & (own["run"] == scores.NEAR_GREEDY) & (own["seed"] == 0)].sort_values("turn")
        means = []
        for time in range(times):
            judge = RubricJudge(noise_sd=sd, seed=time)
            read = [
                judge.score(turns[number], list(group["text"]), ended=list(group["finished"]))
                for number, group in own.groupby("question_id")
            ]
            means.append(float(np.mean([verdict.score for verdicts in read for verdict in verdicts])))
        rows += _lines(arm, "judged again", means, "judgings")
    return tables.frame(rows)


def quoted(rows: Iterable[str], values: Iterable[float], runs: Iterable[int], *, source: str) -> pd.DataFrame:
    """Tidy frame of standard deviations in print, each with the interval that its number of runs gives it."""
    lines = zip(rows, map(float, values), map(int, runs), strict=True)
    return tables.frame(
        _line(row, DEVIATION, spread.of_deviation(value, count), kind="quoted", runs=count, of="runs")
        | {"seeds": None, "source": source}
        for row, value, count in lines
    )


def variance_ratio(claim: str, metric: str, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """One part of a claim: ln of the variance of `ours` over that of `theirs`; open where a side does not vary."""
    row = {"row": claim, "metric": metric, "n": len(ours) + len(theirs), "seeds": len(ours)}
    ratio = spread.log_variance_ratio(ours, theirs)
    if ratio is None:
        return {**row, "value": 0.0, "low": None, "high": None}
    return {**row, "value": ratio.value, "low": ratio.interval.low, "high": ratio.interval.high}


def resolving_power(ratios: Mapping[str, float], runs: Iterable[int]) -> pd.DataFrame:
    """How likely so many runs an arm are to show that one side varies less, by the true ratio of standard deviations.

    A row a ratio, a column a number of runs.
    """
    counts = sorted(set(runs))
    return pd.DataFrame([
        {"ratio of standard deviations": name, "value": ratio}
        | {f"power, {count} runs an arm": spread.power(ratio**2, count, count) for count in counts}
        for name, ratio in ratios.items()
    ])  # fmt: skip


def by_seed(answers: Answers, arm: str) -> list[float]:
    """The mean score of an arm, one a seed."""
    return [float(mean) for mean in answers.values(arm).mean(axis=1)]


def _lines(row: str, metric: str, values: Sequence[float], of: str) -> list[dict[str, Any]]:
    deviation = spread.standard_deviation(values)
    return [] if deviation is None else [_line(row, metric, deviation, kind="retrained", runs=len(values), of=of)]


def _line(row: str, metric: str, value: spread.Spread, *, kind: str, runs: int, of: str) -> dict[str, Any]:
    return {
        "row": row, "metric": metric, "kind": kind, "value": value.value, "low": value.interval.low,
        "high": value.interval.high, "n": runs, "seeds": runs if of == "seeds" else 1,
        "interval": f"{runs} {of}, chi-square 95 %", "source": scores.SOURCE,
    }  # fmt: skip
