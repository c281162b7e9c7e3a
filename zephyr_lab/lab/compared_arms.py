"""Arms that were measured under every seed, and the verbs that compare them, paired by seed.

`Answers`, `Choices`, `AcceptanceLengths`, ... say what a measure of an arm is and how an interval is made of it; the
rest is here. These are what a claim compares (`claims.Comparison`).
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import pandas as pd

from zephyr_lab.reporting import tables
from zephyr_lab.reporting.claims import Part

Compared = TypeVar("Compared", bound="ComparedArms")
Values = pd.Series | pd.DataFrame  # a value, or a row, a seed
Lines = list[dict[str, Any]]  # of a tidy frame


class ComparedArms(ABC):
    """Base of the dataclasses whose frames have the columns seed and model, the arm's name; `frame` is the first.

    default: the measure that is taken where none is named.
    """

    frame: pd.DataFrame
    default: ClassVar[Any] = None

    @property
    @abstractmethod
    def measures(self) -> Mapping[str, Any]:
        """What claims.toml can name."""

    @abstractmethod
    def values(self, arm: str, measure: Any) -> Values:
        """The measure of one arm under each seed. Raises ValueError for an arm that was not measured."""

    def _difference_lines(self, row: str, measure: Any, values: Values) -> Lines:
        """The lines of a difference; none where it has no interval."""
        raise NotImplementedError

    def _effect(self, claim: str, metric: str, measure: Any, values: Values) -> dict[str, Any]:
        """One part of a claim, from its differences."""
        raise NotImplementedError

    def _mean_lines(self, arm: str, measure: Any) -> Lines:
        """The lines of an arm."""
        return self._difference_lines(arm, measure, self.values(arm, measure))

    def _paired(self, ours: str, theirs: str, measure: Any) -> Values:
        """What the interval of a difference is made of."""
        return self.difference(ours, theirs, measure)

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in the order they were asked."""
        return list(dict.fromkeys(self.frame["model"]))

    def require(self, *arms: str) -> None:
        """Raises ValueError for an arm that was not measured."""
        for arm in arms:
            if arm not in self.arms:
                raise ValueError(f"no arm named {arm!r}; there are {', '.join(self.arms)}")

    def __or__(self: Compared, other: Compared) -> Compared:
        """Both measurements. Raises ValueError where both have an arm of one name."""
        shared = [arm for arm in other.arms if arm in self.arms]
        if shared:
            raise ValueError(f"both have an arm named {shared[0]!r}; name one of them otherwise")
        others = other._frames()
        return self._with({name: joined([frame, others[name]]) for name, frame in self._frames().items()})

    def named(self: Compared, names: Mapping[str, str]) -> Compared:
        """Some arms under other names, in that order: `names` gives each new name its arm."""
        self.require(*names.values())
        return self._with({
            name: joined(frame[frame["model"] == arm].assign(model=new) for new, arm in names.items())
            for name, frame in self._frames().items()
            if len(frame)
        })  # fmt: skip

    def means(self, *measures: Any, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame: each measure of each arm, with its interval."""
        return tables.frame(
            line
            for arm in (self.arms if arms is None else arms)
            for measure in measures or (self.default,)
            for line in self._mean_lines(arm, measure)
        )

    def difference(self, ours: str, theirs: str, measure: Any = None) -> Values:
        """The measure of one arm less that of another, under each seed that both have.

        Raises ValueError where they share none.
        """
        measure = measure or self.default
        values = (self.values(ours, measure) - self.values(theirs, measure)).dropna(how="all")
        if values.empty:
            raise ValueError(f"{ours!r} and {theirs!r} have no seed in common")
        return values

    def differences(self, pairs: Mapping[str, tuple[str, str]], *measures: Any) -> pd.DataFrame:
        """Tidy frame of first arm - second arm, paired by seed: `pairs` names each row."""
        return tables.frame(
            line
            for row, arms in pairs.items()
            for measure in measures or (self.default,)
            for line in self._difference_lines(row, measure, self._paired(*arms, measure))
        )

    def effect(self, claim: str, part: Part) -> dict[str, Any]:
        """One part of a claim: its first arm less its second, or the difference of two such differences."""
        measure = self.measures[part.measure]
        values = self._paired(*part.arms[:2], measure)
        if len(part.arms) == 4:
            values = (values - self._paired(*part.arms[2:], measure)).dropna(how="all")
        return self._effect(claim, part.metric, measure, values)

    def _frames(self) -> dict[str, pd.DataFrame]:
        parts = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {name: part for name, part in parts.items() if isinstance(part, pd.DataFrame)}

    def _with(self: Compared, frames: Mapping[str, pd.DataFrame]) -> Compared:
        return dataclasses.replace(self, **frames)


def joined(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Frames one below the other; empty where all are."""
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
