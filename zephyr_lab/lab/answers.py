"""What models answered, and the verbs that make numbers of it: means, differences, win rates, parts, samples.

One row an arm, seed, question and turn. Intervals are over seeds, of differences paired by seed and question.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab.answer_scores import HOT_SCORE, OFFICIAL_SCORE, PARTS, SCORE, Measure
from zephyr_lab.scoring.intervals import PERCENT

# Endings of answers in %: what a model that skipped dSFT does not know.
ENDED_CLEAN = Measure("ended, no role tag, %", "ended_clean", scale=100.0, within=PERCENT)
TAGGED = Measure("role tag, %", "tagged", scale=100.0, within=PERCENT)
ENDLESS = Measure("no end token, %", "endless", scale=100.0, within=PERCENT)
SEVERAL_LINES = Measure("goes on after a line break, %", "several_lines", scale=100.0, within=PERCENT)
ENDINGS = (ENDED_CLEAN, TAGGED, ENDLESS, SEVERAL_LINES)

# The measures that claims.toml names.
MEASURES = {
    "score": SCORE,
    "score at T = 0.7": HOT_SCORE,
    "score, 80 questions": OFFICIAL_SCORE,
    "ended, no role tag": Measure("ended, no role tag", "ended_clean"),
}


@dataclass(frozen=True)
class Answers:
    """Graded answers of some arms. frame: a row an answer; held_out: each model's ranking of held-out pairs, or empty.

    Columns of `frame`: seed, model (the arm's name), run, question_id, category, turn, prompt, text, finished, score,
    its parts, and whether the answer ended cleanly, holds a role tag, never ends, or goes on after a line break.
    """

    frame: pd.DataFrame
    held_out: pd.DataFrame

    @classmethod
    def of(cls, evaluations: Mapping[str, Sequence[Stage]]) -> "Answers":
        """The answers of finished evaluations: by arm a stage a seed."""
        answered, ranked = [], []
        for name, of_arm in evaluations.items():
            for seed, stage in enumerate(of_arm):
                folder = get(stage)
                columns = files.read_json(folder / "answers.json")
                answered.append(pd.DataFrame({"seed": seed, **columns}).assign(model=name))
                if (folder / "pairs.json").is_file():
                    ranked += [{"seed": seed, **row, "model": name} for row in files.read_json(folder / "pairs.json")]
        return cls(with_endings(pd.concat(answered, ignore_index=True)), pd.DataFrame(ranked))

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in the order they were asked."""
        return list(dict.fromkeys(self.frame["model"]))

    def means(self, *measures: Measure, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame: each measure (the score) of each arm, with its interval over seeds."""
        return scores.scores(self.frame, measures or (SCORE,), models=arms)

    def number(self, arm: str, *, row: str, metric: str, measure: Measure = SCORE) -> dict[str, Any]:
        """One line of a tidy frame: the measure of an arm, under the row and metric of a table of one's own."""
        return scores.number(row, metric, self.values(arm, measure), within=measure.within)

    def named(self, names: Mapping[str, str]) -> "Answers":
        """The answers of some arms under other names, in that order: `names` gives each new name its arm."""
        frames = [self.frame[self.frame["model"] == arm].assign(model=name) for name, arm in names.items()]
        lacking = [arm for arm in names.values() if arm not in self.arms]
        if lacking:
            raise ValueError(f"no answers of an arm named {lacking[0]!r}; there are {', '.join(self.arms)}")
        return Answers(pd.concat(frames, ignore_index=True), self.held_out)

    def parts(self, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """What the score is made of: core, explanation, style, cost, words."""
        return self.means(*PARTS, arms=arms)

    def differences(self, pairs: Mapping[str, tuple[str, str]], *measures: Measure) -> pd.DataFrame:
        """Tidy frame of first arm - second arm, paired by seed and question: `pairs` names each row."""
        return scores.differences(self.frame, pairs, measures or (SCORE,))

    def win_rates(self, *, against: str, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame of win rates in % of first answers against those of an arm of the same seed, ties half."""
        return scores.win_rates(self.frame, self.arms if arms is None else arms, against=against)

    def by_category(self, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame of the score in each category."""
        return scores.by_category(self.frame, self.arms if arms is None else arms)

    def samples(self, categories: Sequence[str], *, seed: int = 0, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Whole near-greedy dialogues of one seed: the first question of each category, as each arm went on."""
        answered = self.frame[(self.frame["run"] == scores.NEAR_GREEDY) & (self.frame["seed"] == seed)]
        shown = []
        for category in categories:
            own = answered[answered["category"] == category]
            first = own[own["question_id"] == own["question_id"].min()]
            for arm in self.arms if arms is None else arms:
                turns = first[first["model"] == arm].sort_values("turn")
                shown.append(turns[["category", "model", "turn", "prompt", "text", "score"]])
        return pd.concat(shown, ignore_index=True)

    def values(self, arm: str, measure: Measure = SCORE) -> pd.DataFrame:
        """The measure of one arm: a row a seed, a column a question (mean of its turns)."""
        return scores.grid(self.frame, arm, measure)


def with_endings(answered: pd.DataFrame) -> pd.DataFrame:
    """The answers, and of each whether it ended cleanly, holds a role tag, never ends, goes on after a line break."""
    tagged = answered["role_tags"] > 0
    return answered.assign(
        ended_clean=answered["finished"] & ~tagged,
        tagged=tagged,
        endless=~answered["finished"],
        several_lines=answered["text"].str.strip().str.contains("\n", regex=False),
    )
