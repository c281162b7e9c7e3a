"""Claims of a paper decided from the arms that claims.toml names, and said in sentences.

claims.toml fixes what is decided before anything is measured: which arm minus which, by which measure, in which
direction, beyond which margin. `decide` computes it, records it, and prints what came of it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.reporting import check, tables
from zephyr_lab.reporting import claims as registry
from zephyr_lab.reporting.claims import Claim, Part
from zephyr_lab.reporting.ledger import effect_text
from zephyr_lab.scoring.intervals import Estimate, Interval

OVERVIEW = "overview"
SENTENCES = {
    registry.REPRODUCED: "reproduced here",
    registry.DIRECTION_ONLY: "of the claimed direction here, its size not resolved",
    registry.RULED_OUT: "ruled out at the claimed size here",
    registry.NOT_RESOLVED: "not resolved here",
    registry.CONTRADICTED: "contradicted here",
}


@runtime_checkable
class Comparison(Protocol):
    """Arms that were asked something, as a claim compares them: `Answers`, and what a paper has instead."""

    @property
    def arms(self) -> list[str]:
        """The names of the arms."""

    @property
    def measures(self) -> Mapping[str, Any]:
        """What of them can be compared, by the names of claims.toml."""

    def effect(self, claim: str, part: Part) -> dict[str, Any]:
        """The effect of one part of a claim: its first arm less its second, or the difference of two such."""


class Claims:
    """The claims of one paper, as a notebook decides them one by one."""

    def __init__(self, paper: str) -> None:
        self._paper = paper
        self._said: dict[str, str] = {}

    def decide(
        self,
        id: str,
        measured: Comparison | Sequence[Comparison] | pd.DataFrame | Estimate | Sequence[Estimate] | None = None,
    ) -> None:
        """Decide a claim, record it for the ledger, and print the verdict with effect and interval.

        id: of this paper, or of an overview document (S...), whose verdict published facts give. measured: answers that
        hold the arms which claims.toml names for it, or a list where its parts are about different things; or, for a
        claim about something else, the effects themselves (see `reporting.check.claims`); nothing for a claim that
        cannot be tested here, or that facts alone decide. Raises ValueError for an id that neither has, and for answers
        where claims.toml names no arms.
        """
        paper, claim = self._claim(id)
        compared = [measured] if isinstance(measured, Comparison) else measured
        if isinstance(compared, list) and all(isinstance(one, Comparison) for one in compared):
            asked = {arm for one in compared for arm in one.arms}
            lacking = sorted({arm for part in claim.parts for arm in part.arms} - asked)
            if lacking:
                print(f"{id} not measured: no arm named {', '.join(map(repr, lacking))} was asked")
                return
            measured = effects(claim, *compared)
        effects_by_id = measured if measured is None or isinstance(measured, pd.DataFrame) else {id: measured}
        (entry,) = check.decided(paper, [id], effects_by_id)
        self._said[id] = sentence(claim, entry)
        print(f"{id} {entry['verdict']}: {'; '.join(filter(None, (effect_text(entry), entry['why'])))}")

    def conclude(self, differences: pd.DataFrame, names: Mapping[str, str] | None = None, *, digits: int = 2) -> None:
        """Print what differences say, a line each, and remember it for `findings`.

        differences: a tidy frame whose rows are comparisons, as `Answers.differences` makes it. names: the metrics to
        speak of, each with the words for it; by default all of them under their own names.
        """
        self._say(differences, names, digits, conclusion)

    def report(self, numbers: pd.DataFrame, names: Mapping[str, str] | None = None, *, digits: int = 2) -> None:
        """Print numbers with their intervals, a line each, and remember it for `findings`.

        numbers: a tidy frame, each row a number by itself. names: as in `conclude`.
        """
        self._say(numbers, names, digits, number)

    def _say(
        self, frame: pd.DataFrame, names: Mapping[str, str] | None, digits: int, words: Callable[..., str]
    ) -> None:
        for line in frame.to_dict("records"):
            if names is None or line["metric"] in names:
                metric = (names or {}).get(line["metric"], line["metric"])
                said = words(line, metric, digits=digits)
                self._said[f"{line['row']}, {metric}"] = said
                print(said)

    def say(self, sentences: Mapping[str, str]) -> None:
        """Print sentences, each under the name of what it is about, and remember them for `findings`."""
        self._said |= sentences
        print(*sentences.values(), sep="\n")

    def findings(self) -> None:
        """Print the findings: one sentence a claim that was decided, a difference, and a number that was reported."""
        for said in self._said.values():
            print(f"- {said}")

    def _claim(self, id: str) -> tuple[str, Claim]:
        """The claim, and the paper or document that makes it."""
        papers = dict.fromkeys(paper for paper in (self._paper, OVERVIEW) if paper in registry.PAPERS)
        for paper in papers:
            for claim in registry.load(paper):
                if claim.id == id:
                    return paper, claim
        known = [claim.id for paper in papers for claim in registry.load(paper)]
        raise ValueError(f"{self._paper} has no claim {id!r}; known: {', '.join(known)}")


def effects(claim: Claim, *compared: Comparison) -> pd.DataFrame:
    """The effect of each part of a claim, from the arms and the measure that claims.toml names for it; of several
    comparisons, the first one that has the measure."""
    rows = []
    for part in claim.parts:
        able = [one for one in compared if part.measure in one.measures]
        if len(part.arms) not in (2, 4) or not able:
            known = dict.fromkeys(name for one in compared for name in one.measures)
            raise ValueError(
                f"claims.toml names no arms and no measure for {claim.id} ({part.metric}) that these answers have; "
                f"measures: {', '.join(known)}; or decide it from effects"
            )
        rows.append(able[0].effect(claim.id, part))
    return scores.effects(rows)


def conclusion(difference: Mapping[str, Any], words: str, *, digits: int = 2) -> str:
    """`far, chat score: lower by 0.49 [0.38, 0.60] (5 seeds, t 95 %)`; "no difference resolved" where 0 lies within."""
    estimate = tables.estimate(difference)
    low, high = estimate.interval or (-math.inf, math.inf)
    if low <= 0 <= high:
        says = f"no difference resolved, {estimate.text(f'+.{digits}f')}"
    else:
        size = replace(estimate, value=abs(estimate.value), interval=Interval(*sorted((abs(low), abs(high)))))
        says = f"{'higher' if estimate.value > 0 else 'lower'} by {size.text(f'.{digits}f')}"
    return f"{difference['row']}, {words}: {says}{_basis(estimate)}"


def number(line: Mapping[str, Any], words: str, *, digits: int = 2) -> str:
    """`alpha, beta from chosen answers: 0.05 [0.04, 0.06] (19 rows, t 95 %)`; no ends where it has no interval."""
    estimate = tables.estimate(line)
    return f"{line['row']}, {words}: {estimate.text(f'.{digits}f')}{_basis(estimate)}"


def _basis(estimate: Estimate) -> str:
    return f" ({estimate.basis})" if estimate.basis else ""


def sentence(claim: Claim, entry: dict[str, Any]) -> str:
    """`Z1, reproduced here: "One epoch ..." (+0.68 [0.41, 0.94])`: chosen from the verdict, nothing typed."""
    said = SENTENCES.get(entry["verdict"], entry["verdict"])
    reason = effect_text(entry) or entry["why"]
    if claim.decided_by == registry.PUBLISHED_FACTS and effect_text(entry):  # the effect is beside the verdict
        reason = f"{entry['why']}; ours, beside it: {effect_text(entry)}"
    return f'{claim.id}, {said}: "{claim.statement}" ({reason})'
