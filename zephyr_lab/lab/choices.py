"""What models chose in multiple-choice sets, under the leaderboard's rules, with the verbs of `Answers`.

One row an arm, seed and question, with the log-probability of each option. Nothing is drawn, so an arm that is one
model for all seeds is asked once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.reporting import tables
from zephyr_lab.reporting.claims import Part
from zephyr_lab.scoring.intervals import PERCENT, Scale
from zephyr_lab.scoring.multiple_choice import normalised, share, summed
from zephyr_lab.world.choices import SHOTS

SOURCE = "embedded world, multiple choice"
BY_CHARACTER = "by character"
# Each gives the points of one question, 0 to 1.
RULES: dict[str, Callable[[pd.Series], float]] = {
    BY_CHARACTER: lambda row: normalised(row["log_probs"], row["characters"], row["answer"]),
    "summed": lambda row: summed(row["log_probs"], row["answer"]),
    "share of probability": lambda row: share(row["log_probs"], row["answer"]),
}


@dataclass(frozen=True)
class ChoiceMeasure:
    """Accuracy by one of `RULES`, in one set or as the mean of all, times `scale`; `metric` names it in a table.

    Over all sets each counts the same, as each has the same number of questions.
    """

    metric: str
    rule: str = BY_CHARACTER
    task: str | None = None
    scale: float = 100.0
    within: Scale | None = PERCENT


# The measures that claims.toml names.
MEASURES = {"multiple-choice accuracy": ChoiceMeasure("multiple-choice accuracy", scale=1.0, within=None)}


@dataclass(frozen=True)
class Choices:
    """Multiple-choice questions asked of some arms.

    Columns of `frame`: seed, model (the arm's name), task, question, examples (solved ones that fitted), answer (the
    right option's place), log_probs and characters of the options, and the points by each of `RULES`. once: the arms
    that are one model for all seeds; they stand under seed 0, and are compared with every seed of another arm.
    """

    frame: pd.DataFrame
    once: frozenset[str] = frozenset()

    @classmethod
    def of(cls, asked: Mapping[str, Sequence[Stage]], once: Iterable[str]) -> "Choices":
        """The choices of finished stages: by arm a stage a seed."""
        frames = [
            pd.DataFrame(files.read_json(get(stage) / "choices.json")).assign(seed=seed, model=name)
            for name, of_arm in asked.items()
            for seed, stage in enumerate(of_arm)
        ]
        return cls(with_points(pd.concat(frames, ignore_index=True)), frozenset(once))

    def __or__(self, other: "Choices") -> "Choices":
        """The choices of both askings. Raises ValueError where both have an arm of one name."""
        twice = [arm for arm in other.arms if arm in self.arms]
        if twice:
            raise ValueError(f"both have an arm named {twice[0]!r}; name one of them otherwise")
        return Choices(pd.concat([self.frame, other.frame], ignore_index=True), self.once | other.once)

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in the order they were asked."""
        return list(dict.fromkeys(self.frame["model"]))

    @property
    def measures(self) -> Mapping[str, ChoiceMeasure]:
        """What claims.toml can name of the choices."""
        return MEASURES

    def named(self, names: Mapping[str, str]) -> "Choices":
        """The choices of some arms under other names, in that order: `names` gives each new name its arm."""
        parts = [self._of(arm).assign(model=name) for name, arm in names.items()]
        return Choices(pd.concat(parts), frozenset(name for name, arm in names.items() if arm in self.once))

    def values(self, arm: str, measure: ChoiceMeasure) -> pd.DataFrame:
        """The points of one arm, times the scale: a row a seed, a column a question."""
        chosen = self._of(arm)
        if measure.task is not None:
            chosen = chosen[chosen["task"] == measure.task]
        return measure.scale * chosen.pivot(index="seed", columns=["task", "question"], values=measure.rule)

    def means(self, *measures: ChoiceMeasure, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame: each measure of each arm. Over seeds, t; of one model or seed, a bootstrap over questions."""
        return tables.frame(
            _line(
                arm, measure.metric, self.values(arm, measure), "base" if arm in self.once else "seed", measure.within
            )
            for arm in (self.arms if arms is None else arms)
            for measure in measures
        )

    def difference(self, ours: str, theirs: str, measure: ChoiceMeasure) -> pd.DataFrame:
        """The measure of one arm less that of another: a row a seed that both have, a column a question."""
        first, second = self.values(ours, measure), self.values(theirs, measure)
        if ours in self.once:
            first = _for_every(second.index, first)
        if theirs in self.once:
            second = _for_every(first.index, second)
        values = (first - second).dropna(how="all")
        if values.empty:
            raise ValueError(f"{ours!r} and {theirs!r} have no seed in common")
        return values

    def differences(self, pairs: Mapping[str, tuple[str, str]], *measures: ChoiceMeasure) -> pd.DataFrame:
        """Tidy frame of first arm - second arm, paired by seed and question: `pairs` names each row."""
        return tables.frame(
            _line(row, measure.metric, self.difference(*arms, measure), "seed", scores.of_difference(measure.within))
            for row, arms in pairs.items()
            for measure in measures
        )

    def effect(self, claim: str, part: Part) -> dict[str, Any]:
        """One part of a claim: its first arm less its second."""
        return scores.effect(claim, part.metric, self.difference(*part.arms, MEASURES[part.measure]))

    def examples(self) -> pd.DataFrame:
        """A row a set: questions, solved examples that are wanted before each, and how many fit, on average."""
        first = self._of(self.arms[-1])
        return pd.DataFrame([
            {
                "set": task,
                "questions": part["question"].nunique(),
                "examples wanted": SHOTS[str(task)],
                "examples that fit, mean": round(part["examples"].mean(), 1),
            }
            for task, part in first.groupby("task", sort=False)
        ])  # fmt: skip

    def _of(self, arm: str) -> pd.DataFrame:
        if arm not in self.arms:
            raise ValueError(f"no choices of an arm named {arm!r}; there are {', '.join(self.arms)}")
        return self.frame[self.frame["model"] == arm]


def with_points(asked: pd.DataFrame) -> pd.DataFrame:
    """Questions with a column for each of `RULES`: the points that the model's log-probabilities earn."""
    return asked.assign(**{rule: [points(row) for _, row in asked.iterrows()] for rule, points in RULES.items()})


def _for_every(seeds: pd.Index, one: pd.DataFrame) -> pd.DataFrame:
    """The one row of a model that is the same for all seeds, repeated."""
    return pd.concat([one.iloc[[0]]] * len(seeds)).set_axis(seeds)


def _line(row: str, metric: str, values: pd.DataFrame, unit: str, within: Scale | None) -> dict[str, Any]:
    return {**scores.number(row, metric, values, unit=unit, within=within), "source": SOURCE}
