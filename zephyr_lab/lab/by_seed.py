"""Arms of which each seed gives one number, compared by seed.

The points of policies and their sampled answers are such, and the epochs of a dDPO run.
"""

from abc import abstractmethod
from typing import Any

import pandas as pd

from zephyr_lab.lab import answer_scores, seed_means
from zephyr_lab.lab.answer_scores import Measure
from zephyr_lab.lab.compared_arms import ComparedArms, Lines, Values

QUALITY = Measure("true reward, T = 1", "quality")
KL = Measure("KL, nats", "kl")
WORDS = Measure("words", "words")


class ValuesBySeed(ComparedArms):
    """frame: rows with the columns seed and model. A number of one seed has no interval, and so no row.

    An interval is over seeds; where a class keeps what each question gave (`_paired`), over seeds and questions.
    """

    default = QUALITY

    @abstractmethod
    def values(self, arm: str, measure: Any = QUALITY) -> pd.Series:
        """The measure of one arm, a value a seed. Raises ValueError for an arm that was not measured."""

    @abstractmethod
    def count(self, measure: Any) -> int:
        """Of how many things each value is a mean."""

    def difference(self, ours: str, theirs: str, measure: Any = None) -> pd.Series:
        """The measure (the true reward) of one arm less that of another, a value a seed that both have."""
        measure = measure or self.default
        return (self.values(ours, measure) - self.values(theirs, measure)).dropna()

    def _difference_lines(self, row: str, measure: Any, values: Values) -> Lines:
        if isinstance(values, pd.DataFrame):  # a column a question
            line = answer_scores.number(row, measure.metric, values) | {"source": seed_means.SOURCE}
            return [line] if len(values) > 1 else []
        return seed_means.number(row, measure.metric, list(values), n=self.count(measure)) if len(values) else []

    def _effect(self, claim: str, metric: str, measure: Any, values: Values) -> dict[str, Any]:
        if isinstance(values, pd.DataFrame):
            return answer_scores.effect(claim, metric, values) | {"source": seed_means.SOURCE}
        return seed_means.effect(claim, metric, list(values), n=self.count(measure))
