"""What models answered, and the verbs that make numbers of it: means, differences, win rates, parts, samples.

One row an arm, seed, question and turn. Intervals are over seeds, of differences paired by seed and question.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import answer_scores as scores
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.answer_scores import DOMAIN, HOT, HOT_SCORE, OFFICIAL_SCORE, PARTS, SCORE, Measure
from zephyr_lab.lab.style_faults import ANY_FAULT, with_faults
from zephyr_lab.reporting import tables
from zephyr_lab.reporting.claims import Part
from zephyr_lab.scoring.intervals import PERCENT

# Endings of answers in %: what a model that skipped dSFT does not know.
ENDED_CLEAN = Measure("ended, no role tag, %", "ended_clean", scale=100.0, within=PERCENT)
TAGGED = Measure("role tag, %", "tagged", scale=100.0, within=PERCENT)
ENDLESS = Measure("no end token, %", "endless", scale=100.0, within=PERCENT)
SEVERAL_LINES = Measure("goes on after a line break, %", "several_lines", scale=100.0, within=PERCENT)
ENDINGS = (ENDED_CLEAN, TAGGED, ENDLESS, SEVERAL_LINES)

RETENTION = "KL from the start, nats a token"

# The measures that claims.toml names.
MEASURES = {
    "score": SCORE,
    "score at T = 0.7": HOT_SCORE,
    "score, 80 questions": OFFICIAL_SCORE,
    "ended, no role tag": Measure("ended, no role tag", "ended_clean"),
    "domain score": DOMAIN,
    "share with a style fault, T = 0.7": Measure("share with a style fault", ANY_FAULT, run=HOT),
}


@dataclass(frozen=True)
class Answers:
    """Graded answers of some arms. frame: a row an answer to a question of the chat benchmark; held_out: each model's
    ranking of held-out pairs; domain: a row an answer to a question of the domain; divergences: how far each model is
    from the arm that it was asked to be compared with, kl in nats a token. All but the first may be empty.

    Columns of `frame`: seed, model (the arm's name), run, question_id, category, turn, prompt, text, finished, score,
    its parts, whether the answer ended cleanly, holds a role tag, never ends, or goes on after a line break, and which
    style faults it has (`style_faults`).
    Answers of several askings join with `|`; arms may have unlike numbers of seeds, and a difference is taken over the
    seeds that both sides have.
    """

    frame: pd.DataFrame
    held_out: pd.DataFrame = field(default_factory=pd.DataFrame)
    domain: pd.DataFrame = field(default_factory=pd.DataFrame)
    divergences: pd.DataFrame = field(default_factory=pd.DataFrame)

    @classmethod
    def of(cls, evaluations: Mapping[str, Sequence[Stage]]) -> "Answers":
        """The answers of finished evaluations: by arm a stage a seed."""
        folders = {name: [get(stage) for stage in of_arm] for name, of_arm in evaluations.items()}
        others = (read(folders, file) for file in ("pairs.json", "domain.json", "divergence.json"))
        return cls(with_faults(with_endings(read(folders, "answers.json"))), *others)

    def __or__(self, other: "Answers") -> "Answers":
        """The answers of both askings. Raises ValueError where both have an arm of one name."""
        twice = [arm for arm in other.arms if arm in self.arms]
        if twice:
            raise ValueError(f"both answers have an arm named {twice[0]!r}; name one of them otherwise")
        frames = {
            one.name: pd.concat([getattr(self, one.name), getattr(other, one.name)], ignore_index=True)
            for one in dataclasses.fields(self)
        }
        return dataclasses.replace(self, **frames)

    @property
    def measures(self) -> Mapping[str, Measure]:
        """What claims.toml can name of the answers."""
        return MEASURES

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in the order they were asked."""
        return list(dict.fromkeys(self.frame["model"]))

    def means(self, *measures: Measure, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame: each measure (the score) of each arm, with its interval over seeds."""
        return tables.frame(
            self.number(arm, row=arm, metric=measure.metric, measure=measure)
            for arm in (self.arms if arms is None else arms)
            for measure in measures or (SCORE,)
        )

    def number(self, arm: str, *, row: str, metric: str, measure: Measure = SCORE) -> dict[str, Any]:
        """One line of a tidy frame: the measure of an arm, under the row and metric of a table of one's own."""
        return scores.number(row, metric, self.values(arm, measure), within=measure.within)

    def named(self, names: Mapping[str, str]) -> "Answers":
        """The answers of some arms under other names, in that order: `names` gives each new name its arm."""
        lacking = [arm for arm in names.values() if arm not in self.arms]
        if lacking:
            raise ValueError(f"no answers of an arm named {lacking[0]!r}; there are {', '.join(self.arms)}")
        frames = {one.name: _named(getattr(self, one.name), names) for one in dataclasses.fields(self)}
        return dataclasses.replace(self, **frames)

    def parts(self, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """What the score is made of: core, explanation, style, cost, words."""
        return self.means(*PARTS, arms=arms)

    def differences(self, pairs: Mapping[str, tuple[str, str]], *measures: Measure) -> pd.DataFrame:
        """Tidy frame of first arm - second arm, paired by seed and question: `pairs` names each row."""
        return tables.frame(
            scores.number(
                row,
                measure.metric,
                self.difference(ours, theirs, measure),
                within=scores.of_difference(measure.within),
            )
            for row, (ours, theirs) in pairs.items()
            for measure in measures or (SCORE,)
        )

    def difference(self, ours: str, theirs: str, measure: Measure = SCORE) -> pd.DataFrame:
        """The measure of one arm less that of another: a row a seed that both have, a column a question.

        Raises ValueError where they share no seed.
        """
        values = (self.values(ours, measure) - self.values(theirs, measure)).dropna(how="all")
        if values.empty:
            raise ValueError(f"{ours!r} and {theirs!r} have no seed in common")
        return values

    def effect(self, claim: str, part: Part) -> dict[str, Any]:
        """One part of a claim: its first arm less its second, or the difference of two such differences."""
        measure = MEASURES[part.measure]
        values = self.difference(*part.arms[:2], measure)
        if len(part.arms) == 4:
            values = (values - self.difference(*part.arms[2:], measure)).dropna(how="all")
        return scores.effect(claim, part.metric, values)

    def win_rates(self, *, against: str, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame of win rates in % of first answers against those of an arm of the same seed, ties half."""
        return scores.win_rates(self.frame, self.arms if arms is None else arms, against=against)

    def retention(self, arms: Iterable[str]) -> pd.DataFrame:
        """Tidy frame of how far arms went from their start; one of one seed, which has no interval, has no row."""
        rows = []
        for arm in arms:
            own = self.divergences[self.divergences["model"] == arm]
            rows += seed_means.number(arm, RETENTION, list(own["kl"]), n=int(own["tokens"].min()))
        return tables.frame(rows)

    def accuracies(self, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame of how often a model itself ranks held-out pairs right, %, ties half: log-probability a token."""
        rows = []
        for arm in self.arms if arms is None else arms:
            own = self.held_out[self.held_out["model"] == arm]
            values = [100 * one for one in own["mean"]]
            rows += seed_means.number(arm, "held-out pairs, %", values, n=int(own["pairs"].min()))
        return tables.frame(rows)

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
        return scores.grid(self.domain if measure.domain else self.frame, arm, measure)


def read(folders: Mapping[str, Sequence[Path]], file: str) -> pd.DataFrame:
    """A file of finished evaluations, by arm a folder a seed, with columns seed and model; those without it left out.

    Empty where none has it.
    """
    frames = [
        pd.DataFrame({"seed": seed, **pd.DataFrame(files.read_json(folder / file))}).assign(model=name)
        for name, of_arm in folders.items()
        for seed, folder in enumerate(of_arm)
        if (folder / file).is_file()
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _named(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    if frame.empty:
        return frame
    return pd.concat(
        [frame[frame["model"] == arm].assign(model=name) for name, arm in names.items()], ignore_index=True
    )


def with_endings(answered: pd.DataFrame) -> pd.DataFrame:
    """The answers, and of each whether it ended cleanly, holds a role tag, never ends, goes on after a line break."""
    tagged = answered["role_tags"] > 0
    return answered.assign(
        ended_clean=answered["finished"] & ~tagged,
        tagged=tagged,
        endless=~answered["finished"],
        several_lines=answered["text"].str.strip().str.contains("\n", regex=False),
    )
