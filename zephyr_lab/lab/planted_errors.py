"""Judges with known errors, and the same errors estimated from nothing but their verdicts.

A judge of single answers has noise; a judge of pairs has noise, a liking for the first place and for longer answers.
Planted in every combination, one error taken for another shows.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from zephyr_lab.lab import numbers
from zephyr_lab.reporting import tables
from zephyr_lab.world import calibration
from zephyr_lab.world.completions import Completions
from zephyr_lab.world.judge import PairJudge, RubricJudge
from zephyr_lab.world.task import Turn

ERRORS = ("noise_sd", "position_bias", "length_bias")
SINGLE = "score_noise_sd"
Judge = RubricJudge | PairJudge
Asked = dict[tuple[str, ...], Turn]  # question and answer, or two answers, to the turn that they answer


def recovered(judges: Mapping[str, Judge], sets: Sequence[Completions]) -> pd.DataFrame:
    """Each planted error as it comes back, with its interval: a tidy frame with the planted value as column planted.

    Rows name the judge; metrics: `SINGLE` for judges of answers, `ERRORS` for judges of pairs. A judge's error depends
    on its seed, question and answers alone, so what comes twice is judged once.
    """
    lines, planted = [], []
    answers, pairs = _answers(sets), _pairs(sets)
    for name, judge in judges.items():
        if isinstance(judge, RubricJudge):
            verdicts = [judge.score([turn], [answer])[0] for (_, answer), turn in answers.items()]
            found = calibration.noise_sd([one.exact for one in verdicts], [one.score for one in verdicts])
            lines.append(_line(name, SINGLE, found, len(verdicts), "answers, profile likelihood 95 %"))
            planted.append(judge.noise_sd)
        else:
            verdicts = [judge.compare(turn, first, second) for (_, first, second), turn in pairs.items()]
            errors = calibration.pair_errors(verdicts)
            for error in ERRORS:
                lines.append(_line(name, error, getattr(errors, error), len(verdicts), "pairs, probit Wald 95 %"))
                planted.append(getattr(judge, error))
    return tables.frame(lines).assign(planted=planted)


def coverage(found: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """In how many of 100 intervals of these frames the planted value lies, by error; 95 is what they promise.

    Not over all errors together: the three estimates of one judge of pairs come from the same verdicts and stray
    together.
    """
    frame = pd.concat(found)
    held = (frame["low"] <= frame["planted"]) & (frame["planted"] <= frame["high"])
    parts = {str(metric): held[frame["metric"] == metric] for metric in dict.fromkeys(frame["metric"])}
    return tables.frame(
        numbers.share(name, "held", int(part.sum()), len(part), of="judges") for name, part in parts.items()
    )


def _line(row: str, metric: str, found: calibration.Estimate, n: int, interval: str) -> dict[str, object]:
    number = {"row": row, "metric": metric, "kind": "recomputed", "value": found.value}
    return number | {"low": found.low, "high": found.high, "n": n, "interval": interval, "source": numbers.WORLD}


def _answers(sets: Sequence[Completions]) -> Asked:
    return {
        (prompt.turn.prompt, completion["response"]): prompt.turn
        for made in sets
        for prompt, row in zip(made.prompts, made.rows, strict=True)
        for completion in row["completions"]
    }


def _pairs(sets: Sequence[Completions]) -> Asked:
    """The first two answers of each prompt; which writer comes first is random."""
    return {
        (prompt.turn.prompt, *(completion["response"] for completion in row["completions"][:2])): prompt.turn
        for made in sets
        for prompt, row in zip(made.prompts, made.rows, strict=True)
    }
