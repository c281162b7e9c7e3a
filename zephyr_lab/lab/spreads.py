"""How much mean scores vary: over trainings, askings and judgings, and what so few of them can resolve.

Standard deviations as lines of the tidy frame, with chi-square intervals; a ratio of two as an effect, with an F one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab.answers import Answers
from zephyr_lab.reporting import tables
from zephyr_lab.scoring import spread
from zephyr_lab.scoring.intervals import Estimate
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
            judged = [
                judge.score(turns[number], list(group["text"]), ended=list(group["finished"]))
                for number, group in own.groupby("question_id")
            ]
            means.append(float(np.mean([verdict.score for verdicts in judged for verdict in verdicts])))
        rows += _lines(arm, "judged again", means, "judgings")
    return tables.frame(rows)


def quoted(rows: Iterable[str], values: Iterable[float], runs: Iterable[int], *, source: str) -> pd.DataFrame:
    """Tidy frame of standard deviations in print, each with the interval that its number of runs gives it."""
    return tables.frame(
        tables.line(row, DEVIATION, "quoted", spread.of_deviation(float(value), int(count)), source=source)
        for row, value, count in zip(rows, values, runs, strict=True)
    )


def variance_ratio(claim: str, metric: str, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """One part of a claim: ln of the variance of `ours` over that of `theirs`; open where a side does not vary."""
    ratio = spread.log_variance_ratio(ours, theirs)
    if ratio is None:
        ratio = Estimate(0.0, None, len(ours) + len(theirs), "a side does not vary, no interval", len(ours))
    return tables.line(claim, metric, "retrained", ratio, source=scores.SOURCE)


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
    deviation = spread.standard_deviation(values, of=of)
    if deviation is None:
        return []
    return [tables.line(row, metric, "retrained", replace(deviation, seeds=deviation.seeds or 1), source=scores.SOURCE)]
