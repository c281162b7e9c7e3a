"""What models chose in multiple-choice sets, under the leaderboard's rules, with the verbs of `Answers`.

One row an arm, seed and question, with the log-probability of each option. Nothing is drawn, so an arm that is one
model for all seeds is asked once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab.compared_arms import ComparedArms, Lines
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
class Choices(ComparedArms):
    """Multiple-choice questions asked of some arms.

    Columns of `frame`: seed, model (the arm's name), task, question, examples (solved ones that fitted), answer (the
    right option's place), log_probs and characters of the options, and the points by each of `RULES`. once: the arms
    that are one model for all seeds; they have seed 0 alone, and are compared with every seed of another arm.
    """

    frame: pd.DataFrame
    once: frozenset[str] = frozenset()
    default = MEASURES["multiple-choice accuracy"]

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
        return replace(super().__or__(other), once=self.once | other.once)

    @property
    def measures(self) -> Mapping[str, ChoiceMeasure]:
        """What claims.toml can name of the choices."""
        return MEASURES

    def named(self, names: Mapping[str, str]) -> "Choices":
        """The choices of some arms under other names, in that order: `names` gives each new name its arm."""
        return replace(super().named(names), once=frozenset(name for name, arm in names.items() if arm in self.once))

    def values(self, arm: str, measure: ChoiceMeasure) -> pd.DataFrame:
        """The points of one arm, times the scale: a row a seed, a column a question."""
        self.require(arm)
        chosen = self.frame[self.frame["model"] == arm]
        if measure.task is not None:
            chosen = chosen[chosen["task"] == measure.task]
        return measure.scale * chosen.pivot(index="seed", columns=["task", "question"], values=measure.rule)

    def difference(self, ours: str, theirs: str, measure: ChoiceMeasure) -> pd.DataFrame:
        """The measure of one arm less that of another: a row a seed that both have, a column a question."""
        if (ours in self.once) == (theirs in self.once):
            return super().difference(ours, theirs, measure)
        first, second = self.values(ours, measure), self.values(theirs, measure)
        return first - second.iloc[0] if theirs in self.once else first.iloc[0] - second

    def examples(self) -> pd.DataFrame:
        """A row a set: questions, solved examples that are wanted before each, and how many fit, on average."""
        last = self.frame[self.frame["model"] == self.arms[-1]]
        return pd.DataFrame([
            {
                "set": task,
                "questions": part["question"].nunique(),
                "examples wanted": SHOTS[str(task)],
                "examples that fit, mean": round(part["examples"].mean(), 1),
            }
            for task, part in last.groupby("task", sort=False)
        ])  # fmt: skip

    def _mean_lines(self, arm: str, measure: ChoiceMeasure) -> Lines:
        """Over seeds, t; of one model or seed, a bootstrap over questions."""
        unit = "base" if arm in self.once else "seed"
        number = scores.number(arm, measure.metric, self.values(arm, measure), unit=unit, within=measure.within)
        return [number | {"source": SOURCE}]

    def _difference_lines(self, row: str, measure: ChoiceMeasure, values: pd.DataFrame) -> Lines:
        within = scores.of_difference(measure.within)
        return [scores.number(row, measure.metric, values, within=within) | {"source": SOURCE}]

    def _effect(self, claim: str, metric: str, measure: ChoiceMeasure, values: pd.DataFrame) -> dict[str, Any]:
        return scores.effect(claim, metric, values)


def with_points(asked: pd.DataFrame) -> pd.DataFrame:
    """Questions with a column for each of `RULES`: the points that the model's log-probabilities earn."""
    return asked.assign(**{rule: [points(row) for _, row in asked.iterrows()] for rule, points in RULES.items()})
