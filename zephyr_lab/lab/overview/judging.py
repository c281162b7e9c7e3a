"""Judges of the embedded world: what the exact judge says of spoilt answers, and known errors of others recovered.

A judge of single answers has noise; a judge of pairs has noise, a liking for the first place and for longer answers.
Planted in every combination, one error taken for another shows.
"""

import random
from collections.abc import Mapping, Sequence

import pandas as pd

from zephyr_lab.lab import numbers
from zephyr_lab.reporting import tables
from zephyr_lab.world import calibration, catalogue
from zephyr_lab.world.answers import Flavour, render
from zephyr_lab.world.completions import Completions
from zephyr_lab.world.facts import WorldSize, build
from zephyr_lab.world.judge import PairJudge, RubricJudge, grade
from zephyr_lab.world.task import Task, Turn


def task(category: str, size: WorldSize, *, draw: str) -> Task:
    """A task of a category; `draw` seeds it."""
    return catalogue.draw(random.Random(draw), build(size), category)


def dialogues(size: WorldSize) -> pd.DataFrame:
    """One task a category as a dialogue: two questions, each with its ideal answer."""
    tasks = [task(name, size, draw=f"tour {name}") for name in catalogue.MAKERS]
    return pd.DataFrame(
        {"category": one.category}
        | {
            f"{who} {place}": text
            for place, turn in enumerate(one.turns, 1)
            for who, text in (("user", turn.prompt), ("assistant", turn.ideal))
        }
        for one in tasks
    )


def judged(turn: Turn, flavours: Mapping[str, Flavour]) -> pd.DataFrame:
    """One question answered in each way: the parts of the rubric and their sum."""
    rows = []
    for name, flavour in flavours.items():
        answer = render(random.Random(0), turn, flavour)
        verdict = grade(turn, answer)
        rows.append({
            "answer is": name,
            f"to: {turn.prompt}": answer,
            "core": f"{verdict.core:g}",
            "explanation": f"{verdict.explanation:g}",
            "complete": f"{verdict.complete:d}",
            "capital": f"{verdict.capital:d}",
            "no preface": f"{verdict.no_preface:d}",
            "cost": str(verdict.cost),
            "score": f"{verdict.exact:g}",
        })  # fmt: skip
    return pd.DataFrame(rows)


def prices(turns: Sequence[Turn], flavours: Mapping[str, Flavour]) -> pd.DataFrame:
    """What each defect alone costs on average: metric "points", 10 less the exact score, over all turns."""
    rng = random.Random("tour prices")
    lost = {
        name: [10 - grade(turn, render(rng, turn, flavour)).exact for turn in turns]
        for name, flavour in flavours.items()
    }
    return tables.frame(numbers.mean(name, "points", values, of="questions") for name, values in lost.items())


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
            noise = calibration.noise_sd([one.exact for one in verdicts], [one.score for one in verdicts])
            lines.append(_line(name, SINGLE, noise, len(verdicts), "answers, profile likelihood 95 %"))
            planted.append(judge.noise_sd)
        else:
            verdicts = [judge.compare(turn, first, second) for (_, first, second), turn in pairs.items()]
            errors = calibration.pair_errors(verdicts)
            for error in ERRORS:
                lines.append(_line(name, error, getattr(errors, error), len(verdicts), "pairs, probit Wald 95 %"))
                planted.append(getattr(judge, error))
    return tables.frame(lines).assign(planted=planted)


def coverage(recovered: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """In how many of 100 intervals of these frames the planted value lies, by error; 95 is what they promise.

    Not over all errors together: the three estimates of one judge of pairs come from the same verdicts and stray
    together.
    """
    frame = pd.concat(recovered)
    held = (frame["low"] <= frame["planted"]) & (frame["planted"] <= frame["high"])
    parts = {str(metric): held[frame["metric"] == metric] for metric in dict.fromkeys(frame["metric"])}
    return tables.frame(
        numbers.share(name, "held", int(part.sum()), len(part), of="judges") for name, part in parts.items()
    )


def _line(row: str, metric: str, error: calibration.Estimate, n: int, interval: str) -> dict[str, object]:
    number = {"row": row, "metric": metric, "kind": "recomputed", "value": error.value}
    return number | {"low": error.low, "high": error.high, "n": n, "interval": interval, "source": numbers.WORLD}


def _answers(sets: Sequence[Completions]) -> Asked:
    return {
        (prompt.turn.prompt, completion["response"]): prompt.turn
        for drawn in sets
        for prompt, row in zip(drawn.prompts, drawn.rows, strict=True)
        for completion in row["completions"]
    }


def _pairs(sets: Sequence[Completions]) -> Asked:
    """The first two answers of each prompt; which writer comes first is random."""
    return {
        (prompt.turn.prompt, *(completion["response"] for completion in row["completions"][:2])): prompt.turn
        for drawn in sets
        for prompt, row in zip(drawn.prompts, drawn.rows, strict=True)
    }
