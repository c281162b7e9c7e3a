"""Tasks of the embedded world, their answers spoilt in named ways, and what the exact judge says of them."""

import random
from collections.abc import Mapping, Sequence

import pandas as pd

from zephyr_lab.lab import numbers
from zephyr_lab.reporting import tables
from zephyr_lab.world import catalogue
from zephyr_lab.world.answers import Flavour, render
from zephyr_lab.world.facts import WorldSize, build
from zephyr_lab.world.judge import grade
from zephyr_lab.world.task import Task, Turn


def task(category: str, size: WorldSize, *, draw: str) -> Task:
    """A task of a category; `draw` seeds it."""
    return catalogue.draw(random.Random(draw), build(size), category)


def dialogues(size: WorldSize) -> pd.DataFrame:
    """One task a category as a dialogue: two questions, each with its ideal answer."""
    tasks = [task(name, size, draw=f"tour {name}") for name in catalogue.MAKERS]
    return pd.DataFrame(
        [
            {"category": one.category}
            | {f"{who} {place}": text for place, turn in enumerate(one.turns, 1) for who, text in _said(turn)}
            for one in tasks
        ]
    )


def judged(turn: Turn, flavours: Mapping[str, Flavour]) -> pd.DataFrame:
    """One question answered in each way: the parts of the rubric and their sum."""
    rows = []
    for name, flavour in flavours.items():
        answer = render(random.Random(0), turn, flavour)
        verdict = grade(turn, answer)
        rows.append(
            {
                "answer is": name,
                f"to: {turn.prompt}": answer,
                "core": f"{verdict.core:g}",
                "explanation": f"{verdict.explanation:g}",
                "complete": f"{verdict.complete:d}",
                "capital": f"{verdict.capital:d}",
                "no preface": f"{verdict.no_preface:d}",
                "cost": str(verdict.cost),
                "score": f"{verdict.exact:g}",
            }
        )
    return pd.DataFrame(rows)


def prices(turns: Sequence[Turn], flavours: Mapping[str, Flavour]) -> pd.DataFrame:
    """What each defect alone costs on average: metric "points", 10 less the exact score, over all turns."""
    rng = random.Random("tour prices")
    lost = {
        name: [10 - grade(turn, render(rng, turn, flavour)).exact for turn in turns]
        for name, flavour in flavours.items()
    }
    return tables.frame(numbers.mean(name, "points", values, of="questions") for name, values in lost.items())


def _said(turn: Turn) -> list[tuple[str, str]]:
    return [("user", turn.prompt), ("assistant", turn.ideal)]
