"""Notebook 01: tasks of the embedded world, the rubric at work, its four writers, and how they are rated.

Rows are drawn under seeds 0 to N-1 and pooled; intervals are over rows. The errors of judges are in `planted_errors`,
those of ratings in `rating_noise`.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zephyr_lab.core import settings
from zephyr_lab.lab import numbers
from zephyr_lab.lab.numbers import Known
from zephyr_lab.lab.skills import skills
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.intervals import EXACT, all_equal, clopper_pearson
from zephyr_lab.world import catalogue
from zephyr_lab.world.answers import render
from zephyr_lab.world.completions import Completions, completions, prompts
from zephyr_lab.world.defects import FILLERS, IDEAL, PREFACES, Flavour
from zephyr_lab.world.facts import WorldSize, build
from zephyr_lab.world.generators import FOUR
from zephyr_lab.world.judge import grade
from zephyr_lab.world.ratings import ASPECTS, true_aspects
from zephyr_lab.world.task import Turn

# One defect at a time; the second kind of lower case ("all_lower") costs the same point as the first.
DEFECTS: dict[str, Flavour] = {
    "ideal": IDEAL,
    "wrong core": Flavour(core="wrong"),
    "wrong throughout": Flavour(core="wrong", explanation="wrong"),
    "refuses to answer": Flavour(core="refused", explanation="none"),
    "no explanation": Flavour(explanation="none"),
    "wrong explanation": Flavour(explanation="wrong"),
    "lower case": Flavour(case="lower_start"),
    "disclaimer preface": Flavour(preface=PREFACES[0]),
    "padding": Flavour(filler=FILLERS[0]),
    "broken off": Flavour(truncated=True),
}
BINS = tuple(range(1, 11))
SHOWN_CATEGORY = "math"


@dataclass(frozen=True, kw_only=True)
class WorldTour:
    """`prompts` a seed, each with four answers. The rest is planted: noise (sd), position and length bias of judges of
    answers and of pairs, and noise of the overall rating. `bases`: the most base models that are probed."""

    world: str
    prompts: int
    noise_sds: tuple[float, ...]
    position_biases: tuple[float, ...]
    length_biases: tuple[float, ...]
    rating_sds: tuple[float, ...]
    bases: int

    def __post_init__(self) -> None:
        require_world(self.world)
        if self.prompts < 2 or self.bases < 1:
            raise ValueError(f"prompts must be at least 2 and bases 1, got {self.prompts} and {self.bases}")

    @property
    def size(self) -> WorldSize:
        return require_world(self.world)


def settings_of(profile: str) -> WorldTour:
    return settings.load("overview", profile, "world_tour", WorldTour)


def examples(profile: str) -> pd.DataFrame:
    """One task a category as a dialogue: two questions, each with its ideal answer."""
    facts = build(settings_of(profile).size)
    tasks = [catalogue.draw(random.Random(f"tour {name}"), facts, name) for name in catalogue.MAKERS]
    return pd.DataFrame(
        [
            {"category": task.category}
            | {f"{who} {place}": text for place, turn in enumerate(task.turns, 1) for who, text in _said(turn)}
            for task in tasks
        ]
    )


def rubric(profile: str) -> pd.DataFrame:
    """One question answered in every way of `DEFECTS`: the parts of the rubric and their sum."""
    task = catalogue.draw(random.Random("tour rubric"), build(settings_of(profile).size), SHOWN_CATEGORY)
    turn = task.turns[0]
    rows = []
    for name, flavour in DEFECTS.items():
        answer = render(random.Random(0), turn, flavour)
        verdict = grade(turn, answer)
        rows.append(
            {
                "answer is": name,
                f"to: {turn.prompt}": answer,
                "core": f"{verdict.core:g}",
                "explanation": f"{verdict.explanation:g}",
                "complete": _tick(verdict.complete),
                "capital": _tick(verdict.capital),
                "no preface": _tick(verdict.no_preface),
                "cost": str(verdict.cost),
                "score": f"{verdict.exact:g}",
            }
        )
    return pd.DataFrame(rows)


def prices(profile: str, seeds: int) -> pd.DataFrame:
    """What each defect alone costs on average: metric "points", 10 less the exact score, over all questions drawn."""
    turns = _turns(profile, seeds)
    rng = random.Random("tour prices")
    lost = {
        name: [10 - grade(turn, render(rng, turn, flavour)).exact for turn in turns]
        for name, flavour in DEFECTS.items()
        if name != "ideal"
    }
    return tables.frame(numbers.mean(name, "points", values, of="questions") for name, values in lost.items())


def drawn(profile: str, seeds: int) -> list[Completions]:
    """Scored completions of the four writers, one set a seed."""
    chosen = settings_of(profile)
    return [completions(seed, chosen.prompts, size=chosen.size) for seed in range(seeds)]


def answers_frame(sets: Sequence[Completions]) -> pd.DataFrame:
    """One row an answer: writer, exact, overall, words, the four aspects as rated (NaN for N/A), and as they truly are
    ("true honesty" and so on)."""
    return pd.DataFrame([row for made in sets for row in _answers(made)])


def writers(answers: pd.DataFrame) -> pd.DataFrame:
    """Means of each writer: exact score, overall rating, words, the four aspects."""
    measured = {"exact": "exact", "overall": "overall", "words": "words"} | {name: name for name in ASPECTS}
    return tables.frame(
        numbers.mean(writer.name, metric, answers.loc[answers["writer"] == writer.name, column].dropna(), of="answers")
        for writer in FOUR
        for metric, column in measured.items()
    )


def histograms(answers: pd.DataFrame) -> pd.DataFrame:
    """Share of each writer's answers at each score 1 to 10, to the nearest point: metrics "exact" and "overall".

    A tidy frame with rows "strong, 10" and two more columns, writer and score.
    """
    rows, places = [], []
    for writer in FOUR:
        own = answers[answers["writer"] == writer.name]
        for metric in ("exact", "overall"):
            nearest = (own[metric] + 0.5).astype(int)
            for score in BINS:
                hits = int((nearest == score).sum())
                rows.append(numbers.share(f"{writer.name}, {score}", metric, hits, len(own), of="answers"))
                places.append((writer.name, score))
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


def base_skills(profile: str, seeds: int) -> pd.DataFrame:
    """The skill probe of at most `bases` base models, one row a base and category; trains what is missing."""
    return skills(profile, min(seeds, settings_of(profile).bases))


def skill_means(probed: pd.DataFrame) -> pd.DataFrame:
    """Mean right core over the bases in percent, metrics "first_turn" and "second_turn"; empty for one base alone.

    Where all bases are equal the interval is over the tasks instead, and says so.
    """
    count = probed["seed"].nunique()
    if count < 2:
        return tables.frame([])
    rows = []
    for category, part in probed.groupby("category", sort=False):
        for metric in ("first_turn", "second_turn"):
            n, values = int(part["tasks"].iloc[0]), (100 * part[metric]).to_numpy()
            line = numbers.mean(str(category), metric, values, of=f"{count} bases")
            if all_equal(values):
                low, high = clopper_pearson(n * part[metric].iloc[0], n)
                line |= {"low": 100 * low, "high": 100 * high, "interval": f"{count} equal bases: {n} tasks, {EXACT}"}
            rows.append(line | {"kind": "retrained", "seeds": count, "n": n, "source": "skill probe"})
    return tables.frame(rows)


def known_figures(profile: str, seeds: int) -> Iterator[Known]:
    """What must be exact: the judge's scores of clean answers, and of answers with nothing wrong but their core."""
    turns = _turns(profile, seeds)
    perfect = sum(grade(turn, turn.ideal).exact == 10 for turn in turns)
    yield Known("ideal answers that the exact judge gives 10", perfect, len(turns), 0)
    fooled = sum(grade(turn, turn.wrong_core).exact > 6 for turn in turns)
    yield Known("answers with a wrong core that it gives more than 6", fooled, 0, 0)


def _turns(profile: str, seeds: int) -> list[Turn]:
    chosen = settings_of(profile)
    sets = [prompts(seed, chosen.prompts, size=chosen.size) for seed in range(seeds)]
    return [prompt.turn for asked in sets for prompt in asked]


def _said(turn: Turn) -> list[tuple[str, str]]:
    return [("user", turn.prompt), ("assistant", turn.ideal)]


def _tick(holds: bool) -> str:
    return "1" if holds else "0"


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
