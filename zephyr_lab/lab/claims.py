"""Claims of a paper decided from the arms that claims.toml names, and said in sentences.

What is decided stands in claims.toml before anything is measured: which arm minus which, by which measure, in which
direction, beyond which margin. `decide` computes it, records it, and prints what came of it.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab.answers import MEASURES, Answers
from zephyr_lab.reporting import check
from zephyr_lab.reporting import claims as registry
from zephyr_lab.reporting.check_shown import effect_text
from zephyr_lab.reporting.claims import Claim, Measured, Part

SENTENCES = {
    registry.REPRODUCED: "reproduced here",
    registry.DIRECTION_ONLY: "of the claimed direction here, its size not resolved",
    registry.NOT_RESOLVED: "not resolved here",
    registry.CONTRADICTED: "contradicted here",
}


class Claims:
    """The claims of one paper, as a notebook decides them one by one."""

    def __init__(self, paper: str) -> None:
        self._paper = paper
        self._decided: dict[str, str] = {}

    def decide(self, id: str, measured: Answers | pd.DataFrame | Measured | Sequence[Measured]) -> None:
        """Decide a claim, record it for the ledger, and print the verdict with effect and interval.

        measured: answers that hold the arms which claims.toml names for it; or, for a claim about something else, the
        effects themselves (see `reporting.check.claims`). Raises ValueError for an id that the paper does not have, and
        for answers where claims.toml names no arms.
        """
        claim = self._claim(id)
        if isinstance(measured, Answers):
            lacking = sorted({arm for part in claim.parts for arm in part.arms} - set(measured.arms))
            if lacking:
                print(f"{id} not measured: no arm named {', '.join(map(repr, lacking))} was asked")
                return
            measured = effects(claim, measured)
        given = measured if isinstance(measured, pd.DataFrame) else {id: measured}
        (entry,) = check.decided(self._paper, [id], given)
        self._decided[id] = sentence(claim, entry)
        print(f"{id} {entry['verdict']}: {effect_text(entry)}; {entry['why']}")

    def findings(self) -> None:
        """Print one sentence a claim that was decided, from verdict, effect and interval."""
        for said in self._decided.values():
            print(f"- {said}")

    def _claim(self, id: str) -> Claim:
        known = {claim.id: claim for claim in registry.load(self._paper)}
        if id not in known:
            raise ValueError(f"{self._paper} has no claim {id!r}; known: {', '.join(known)}")
        return known[id]


def effects(claim: Claim, answers: Answers) -> pd.DataFrame:
    """The effect of each part of a claim, from the arms and the measure that claims.toml names for it."""
    return scores.effects([scores.effect(claim.id, part.metric, _values(claim, part, answers)) for part in claim.parts])


def _values(claim: Claim, part: Part, answers: Answers) -> pd.DataFrame:
    if len(part.arms) != 2 or part.measure not in MEASURES:
        raise ValueError(
            f"claims.toml names no two arms and no measure for {claim.id} ({part.metric}); decide it from effects"
        )
    ours, theirs = part.arms
    measure = MEASURES[part.measure]
    return answers.values(ours, measure) - answers.values(theirs, measure)


def sentence(claim: Claim, entry: dict[str, Any]) -> str:
    """`Z1, reproduced here: "One epoch ..." (+0.68 [0.41, 0.94])`: chosen from the verdict, nothing typed."""
    said = SENTENCES.get(entry["verdict"], entry["verdict"])
    return f'{claim.id}, {said}: "{claim.statement}" ({effect_text(entry) or entry["why"]})'
