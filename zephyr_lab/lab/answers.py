"""What models answered, and the verbs that make numbers of it: means, differences, win rates, parts, samples.

One row an arm, seed, question and turn. Intervals are over seeds, of differences paired by seed and question.
"""

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
from zephyr_lab.lab.compared_arms import ComparedArms, Lines, joined
from zephyr_lab.lab.style_faults import with_faults
from zephyr_lab.reporting import tables
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
    "goes on after a line break": Measure("goes on after a line break", "several_lines"),
    "domain score": DOMAIN,
    "share with a case fault, T = 0.7": Measure("share with a case fault", "case", run=HOT),
    "share with a disclaimer preface, T = 0.7": Measure("share with a preface", "disclaimer preface", run=HOT),
}


@dataclass(frozen=True)
class Answers(ComparedArms):
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
    default = SCORE

    @classmethod
    def of(cls, evaluations: Mapping[str, Sequence[Stage]]) -> "Answers":
        """The answers of finished evaluations: by arm a stage a seed."""
        folders = {name: [get(stage) for stage in of_arm] for name, of_arm in evaluations.items()}
        others = (read(folders, file) for file in ("pairs.json", "domain.json", "divergence.json"))
        return cls(with_faults(with_endings(read(folders, "answers.json"))), *others)

    @property
    def measures(self) -> Mapping[str, Measure]:
        """What claims.toml can name of the answers."""
        return MEASURES

    def number(self, arm: str, *, row: str, metric: str, measure: Measure = SCORE) -> dict[str, Any]:
        """One line of a tidy frame: the measure of an arm, under the row and metric of a table of one's own."""
        return scores.number(row, metric, self.values(arm, measure), within=measure.within)

    def parts(self, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """What the score is made of: core, explanation, style, cost, words."""
        return self.means(*PARTS, arms=arms)

    def win_rates(self, *, against: str, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame of win rates in % of first answers against those of an arm of the same seed, ties half.

        Against itself an arm draws by definition, and the row says so.
        """
        itself = {"low": 50.0, "high": 50.0, "interval": "against itself: 50 by definition"}
        return tables.frame(
            scores.number(arm, "win_rate", scores.wins(self.frame, arm, against), within=PERCENT)
            | (itself if arm == against else {})
            for arm in (self.arms if arms is None else arms)
        )

    def retention(self, arms: Iterable[str]) -> pd.DataFrame:
        """Tidy frame of how far arms went from their start; one of one seed, which has no interval, has no row."""
        return _by_seed(self.divergences, arms, RETENTION, "kl", n="tokens")

    def accuracies(self, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame of how often a model itself ranks held-out pairs right, %, ties half: log-probability a token."""
        wanted = self.arms if arms is None else arms
        return _by_seed(self.held_out, wanted, "held-out pairs, %", "mean", n="pairs", scale=100.0)

    def by_category(self, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame of the mean score in each category, the category as metric."""
        parts = [(str(name), part) for name, part in self.frame.groupby("category", sort=False)]
        return tables.frame(
            scores.number(arm, category, scores.grid(part, arm), within=SCORE.within)
            for arm in (self.arms if arms is None else arms)
            for category, part in parts
        )

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

    def _mean_lines(self, arm: str, measure: Measure) -> Lines:
        return [self.number(arm, row=arm, metric=measure.metric, measure=measure)]

    def _difference_lines(self, row: str, measure: Measure, values: pd.DataFrame) -> Lines:
        return [scores.number(row, measure.metric, values, within=scores.of_difference(measure.within))]

    def _effect(self, claim: str, metric: str, measure: Measure, values: pd.DataFrame) -> dict[str, Any]:
        return scores.effect(claim, metric, values)


def _by_seed(
    measured: pd.DataFrame, arms: Iterable[str], metric: str, column: str, *, n: str, scale: float = 1.0
) -> pd.DataFrame:
    """Tidy frame of a column that each seed has one value of; `n`: the column that says what it is a mean over."""
    parts = {arm: measured[measured["model"] == arm] for arm in arms}
    return tables.frame(
        line
        for arm, own in parts.items()
        for line in seed_means.number(arm, metric, list(scale * own[column]), n=int(own[n].min()))
    )


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
    return joined(frames)


def with_endings(answered: pd.DataFrame) -> pd.DataFrame:
    """The answers, and of each whether it ended cleanly, holds a role tag, never ends, goes on after a line break."""
    tagged = answered["role_tags"] > 0
    return answered.assign(
        ended_clean=answered["finished"] & ~tagged,
        tagged=tagged,
        endless=~answered["finished"],
        several_lines=answered["text"].str.strip().str.contains("\n", regex=False),
    )
