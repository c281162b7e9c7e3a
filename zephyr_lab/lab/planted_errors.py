"""Judges with known errors, and the same errors estimated from nothing but their verdicts (notebook 01).

A judge of single answers has noise; a judge of pairs has noise, a liking for the first place and for longer answers,
planted in every combination, so that one error taken for another would show.
"""

from collections.abc import Sequence
from itertools import product

import pandas as pd

from zephyr_lab.core.seeds import derive
from zephyr_lab.lab import numbers
from zephyr_lab.lab.world_tour import WorldTour
from zephyr_lab.reporting import tables
from zephyr_lab.world import calibration
from zephyr_lab.world.completions import Completions
from zephyr_lab.world.judge import RubricJudge
from zephyr_lab.world.pairwise import PairJudge
from zephyr_lab.world.task import Turn

ERRORS = ("noise_sd", "position_bias", "length_bias")
SINGLE = "score_noise_sd"
Asked = dict[tuple[str, ...], Turn]  # question and answer, or two answers, to the turn that they answer


def recovered(chosen: WorldTour, sets: Sequence[Completions], *, judges: int = 0) -> pd.DataFrame:
    """Each planted error as it comes back, with its interval: a tidy frame with the planted value as column planted.

    Rows name the judge; metrics: `SINGLE` for judges of answers, `ERRORS` for judges of pairs. A judge's error depends
    on its seed, question and answers alone, so what comes twice is judged once. `judges` is the seed of the judges.
    """
    lines, planted = [], []
    answers, pairs = _answers(sets), _pairs(sets)
    for sd in chosen.noise_sds:
        judge = RubricJudge(noise_sd=sd, seed=derive(judges, "planted", str(sd)))
        verdicts = [judge.score([turn], [answer])[0] for (_, answer), turn in answers.items()]
        found = calibration.noise_sd([one.exact for one in verdicts], [one.score for one in verdicts])
        lines.append(
            _line(f"of answers: noise {sd:g}", SINGLE, found, len(verdicts), "answers, profile likelihood 95 %")
        )
        planted.append(sd)
    for values in product(chosen.noise_sds, chosen.position_biases, chosen.length_biases):
        wanted = dict(zip(ERRORS, values, strict=True))
        judge = PairJudge(**wanted, seed=derive(judges, "planted", str(values)))
        verdicts = [judge.compare(turn, first, second) for (_, first, second), turn in pairs.items()]
        found = calibration.pair_errors(verdicts)
        name = "of pairs: noise {:g}, position {:g}, length {:g}".format(*values)
        for error in ERRORS:
            lines.append(_line(name, error, getattr(found, error), len(verdicts), "pairs, probit Wald 95 %"))
            planted.append(wanted[error])
    return tables.frame(lines).assign(planted=planted)


def recovered_by_seed(chosen: WorldTour, sets: Sequence[Completions], *, times: int) -> list[pd.DataFrame]:
    """`recovered` on the rows of each seed alone, `times` over, by judges of other seeds: fewer rows, more judges."""
    return [
        recovered(chosen, [made], judges=1 + place * times + time)
        for place, made in enumerate(sets)
        for time in range(times)
    ]


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
