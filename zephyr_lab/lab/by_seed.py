"""Arms of which each seed gives one number, and the verbs that compare them, paired by seed.

`teaching.policies.Points` is such: what policies drew at temperature 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from zephyr_lab.lab import seed_means
from zephyr_lab.lab.answer_scores import Measure
from zephyr_lab.reporting import tables
from zephyr_lab.reporting.claims import Part

QUALITY = Measure("true reward, T = 1", "quality")
KL = Measure("KL, nats", "kl")
WORDS = Measure("words", "words")


class ValuesBySeed(ABC):
    """What a claim can compare (`claims.Comparison`). frame: rows with the columns seed and model, the arm's name."""

    frame: pd.DataFrame

    @property
    @abstractmethod
    def measures(self) -> Mapping[str, Measure]:
        """What claims.toml can name."""

    @abstractmethod
    def values(self, arm: str, measure: Measure = QUALITY) -> pd.Series:
        """The measure of one arm, a value a seed. Raises ValueError for an arm that was not measured."""

    @abstractmethod
    def count(self, measure: Measure) -> int:
        """Of how many things each value is a mean."""

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in the order they were asked."""
        return list(dict.fromkeys(self.frame["model"]))

    def means(self, *measures: Measure, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame: each measure (the true reward) of each arm that has it; no row for one seed."""
        return tables.frame(
            line
            for arm in (self.arms if arms is None else arms)
            for measure in measures or (QUALITY,)
            for line in self._line(arm, measure, self.values(arm, measure))
        )

    def difference(self, ours: str, theirs: str, measure: Measure = QUALITY) -> pd.Series:
        """The measure of one arm less that of another, a value a seed that both have."""
        return (self.values(ours, measure) - self.values(theirs, measure)).dropna()

    def differences(self, pairs: Mapping[str, tuple[str, str]], *measures: Measure) -> pd.DataFrame:
        """Tidy frame of first arm - second arm, paired by seed: `pairs` names each row; no row for one seed."""
        return tables.frame(
            line
            for row, (ours, theirs) in pairs.items()
            for measure in measures or (QUALITY,)
            for line in self._line(row, measure, self.difference(ours, theirs, measure))
        )

    def effect(self, claim: str, part: Part) -> dict[str, Any]:
        """One part of a claim: its first arm less its second, or the difference of two such differences."""
        measure = self.measures[part.measure]
        values = self.difference(*part.arms[:2], measure)
        if len(part.arms) == 4:
            values = (values - self.difference(*part.arms[2:], measure)).dropna()
        return seed_means.effect(claim, part.metric, list(values), n=self.count(measure))

    def _line(self, row: str, measure: Measure, values: pd.Series) -> list[dict[str, Any]]:
        return seed_means.number(row, measure.metric, list(values), n=self.count(measure)) if len(values) else []
