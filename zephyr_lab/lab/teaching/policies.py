"""Where policies stand between reward and KL, measured on one answer at temperature 1 to each held-out question.

The objective of RLHF is a mean over answers drawn from the policy, so true reward, KL to the start and words are
measured on draws. A training leaves policies on its way: an arm is thus a curve of true reward against KL, and two arms
are compared where both have been. A number is one a seed; differences are paired by seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.answer_scores import Measure
from zephyr_lab.lab.by_seed import KL, QUALITY, WORDS, ValuesBySeed
from zephyr_lab.lab.teaching.rlhf_stages import FINAL
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.methods.recipes.training import Training
from zephyr_lab.reporting import tables
from zephyr_lab.scoring import best_of_n, frontiers

LEARNED = Measure("learned reward", "learned")
BRIEF = Measure("points less words", "brief")
WINS = Measure("win rate against the start, %", "win")
RANKED = Measure("held-out pairs ranked right, %", "held_out_accuracy_mean", scale=100.0)
MOVED_CHOSEN = Measure("log-prob of chosen, change in nats", "held_out_moved_chosen")
MOVED_REJECTED = Measure("log-prob of rejected, change in nats", "held_out_moved_rejected")
ON_PAIRS = (RANKED, MOVED_CHOSEN, MOVED_REJECTED)
MEANS = ("quality", "brief", "learned", "words", "tokens", "finished")  # columns that are means over answers
COUNTS = (2, 4, 8, 16)  # n of best-of-n


@dataclass(frozen=True)
class Points(ValuesBySeed):
    """Measured policies of some arms, those on the way of a training among them.

    frame: a row a seed, arm and policy: seed, model (the arm), point ("steps/N", "epochs/N" or "final"), step (rollouts
    or epochs taken), kl (to the start, nats an answer), means over answers of quality (the true reward, 1 to 10),
    brief (that less half a point a word), learned (log-odds; NaN without a reward model), words, tokens, finished, and
    win (% of questions answered better than the start of the same seed does, ties half); of a final policy also what
    its training measured on held_out_pairs, where it did (columns of `ON_PAIRS`). answers: a row an answer: seed,
    model, point, question, text, quality, learned. start: the arm that KL and wins are against. questions: what each
    number is a mean over. parameters: of the start.
    """

    frame: pd.DataFrame
    answers: pd.DataFrame
    start: str
    questions: int
    parameters: float

    @classmethod
    def of(cls, measured: Mapping[str, Sequence[tuple[Model, Stage]]], start: str) -> "Points":
        """From finished `frontier` stages: by arm, for each seed, the model that was trained and its stage."""
        rows, answers = [], []
        for seed, (_, first) in enumerate(measured[start]):
            begun = files.read_json(get(first) / "frontier.json")[-1]
            for arm, of_arm in measured.items():
                model, stage = of_arm[seed]
                for row in files.read_json(get(stage) / "frontier.json"):
                    point = {"seed": seed, "model": arm, "point": row["model"]}
                    numbers = _means(row, begun) | (_on_pairs(model) if row["model"] == FINAL else {})
                    rows.append({**point, "step": steps_taken(model.stage, row["model"]), **numbers})
                    answers.append(pd.DataFrame({
                        **point, "question": range(len(row["text"])), "text": row["text"], "quality": row["quality"],
                        "learned": row.get("learned", np.nan),
                    }))  # fmt: skip
        first = measured[start][0][1]
        questions, parameters = 2 * first.recipe.questions, metrics(first)["parameters"]
        return cls(pd.DataFrame(rows), pd.concat(answers, ignore_index=True), start, questions, parameters)

    def __or__(self, more: pd.DataFrame) -> "Points":
        """With further points beside, e.g. those of best-of-n (`Pool.points`). Raises ValueError for a known arm."""
        twice = [arm for arm in dict.fromkeys(more["model"]) if arm in self.arms]
        if twice:
            raise ValueError(f"there is an arm named {twice[0]!r} already; name one of them otherwise")
        return replace(self, frame=pd.concat([self.frame, more], ignore_index=True))

    @property
    def measures(self) -> Mapping[str, Measure]:
        """What claims.toml can name of the policies."""
        return {
            "true reward": QUALITY,
            "KL": KL,
            "words": WORDS,
            "held-out pairs ranked right": RANKED,
            "log-prob of chosen": MOVED_CHOSEN,
            "log-prob of rejected": MOVED_REJECTED,
        }

    @property
    def seeds(self) -> int:
        """Under how many seeds the start was measured."""
        return len(self.values(self.start))

    def values(self, arm: str, measure: Measure = QUALITY, *, point: str = FINAL) -> pd.Series:
        """The measure of one policy of an arm, by default its final one, a value a seed; empty where its training did
        not measure it.

        Raises ValueError for an arm or a policy that was not measured.
        """
        self._require(arm)
        own = self._of(arm)
        policy = own[own["point"] == point]
        if policy.empty:
            raise ValueError(f"{arm!r} left no policy {point!r}; it left {', '.join(own['point'].unique())}")
        if measure.column not in policy:
            return pd.Series(dtype=float)
        return measure.scale * policy.set_index("seed")[measure.column].dropna().astype(float).sort_index()

    def count(self, measure: Measure) -> int:
        """The questions that each value is a mean over, or the held-out pairs."""
        return int(self.frame["held_out_pairs"].max()) if measure in ON_PAIRS else self.questions

    def named(self, names: Mapping[str, str]) -> "Points":
        """Some arms under other names, in that order: `names` gives each new name its arm. The start keeps its own."""
        self._require(*names.values())
        names = {self.start: self.start, **names}
        frame, answers = (
            pd.concat([one[one["model"] == arm].assign(model=name) for name, arm in names.items()], ignore_index=True)
            for one in (self.frame, self.answers)
        )
        return replace(self, frame=frame, answers=answers)

    def curve(self, arm: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """KL and true reward of one arm's policies under one seed, the start first."""
        own = self._of(arm)
        own = own[own["seed"] == seed]
        return frontiers.curve(own["kl"].to_numpy(), own["quality"].to_numpy(), start=self.values(self.start)[seed])

    def support(self, *arms: str) -> float:
        """The largest KL that these arms reach under every seed."""
        return frontiers.common_support([self.curve(arm, seed) for arm in arms for seed in range(self.seeds)])

    def at_equal_kl(self, ours: str, theirs: str) -> list[float]:
        """Ours - theirs, a value a seed: mean true reward over KL from 0 to where both have been, in points."""
        up_to = self.support(ours, theirs)
        return [
            frontiers.mean_score(self.curve(ours, seed), up_to) - frontiers.mean_score(self.curve(theirs, seed), up_to)
            for seed in range(self.seeds)
        ]

    def equal_kl(self, *, against: str, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """As `differences_at_equal_kl`, of each arm less `against`."""
        others = [arm for arm in self.arms if arm not in (against, self.start)]
        return self.differences_at_equal_kl({arm: (arm, against) for arm in (others if arms is None else arms)})

    def differences_at_equal_kl(self, pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
        """Tidy frame of first arm - second arm on their common support, `pairs` naming each row: area between the
        curves by its width, the gap at its end, and that KL."""
        rows = []
        for row, (ours, theirs) in pairs.items():
            up_to = self.support(ours, theirs)
            ends = [
                frontiers.score_at(self.curve(ours, seed), up_to) - frontiers.score_at(self.curve(theirs, seed), up_to)
                for seed in range(self.seeds)
            ]
            rows += seed_means.number(row, "mean over KL, points", self.at_equal_kl(ours, theirs), n=self.questions)
            rows += seed_means.number(row, "at the end, points", ends, n=self.questions)
            rows += seed_means.number(row, "up to KL, nats", [up_to] * self.seeds, n=self.questions)
        return tables.frame(rows)

    def over_kl(self, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Lines for `figures.curves`: mean true reward over mean KL of each arm's policies, the start first."""
        lines = []
        for arm in [one for one in self.arms if one != self.start] if arms is None else arms:
            points = [(0.0, self.values(self.start).to_numpy())]
            for _, own in self._of(arm).groupby("point", sort=False):
                points.append((own["kl"].mean(), own.sort_values("seed")["quality"].to_numpy()))
            points.sort(key=lambda point: point[0])
            values = np.array([reward for _, reward in points])
            lines.append(seed_means.curve(arm, [kl for kl, _ in points], list(values.T), kind="retrained"))
        return pd.concat(lines, ignore_index=True)

    def over_steps(self, measure: Measure, arms: Iterable[str]) -> pd.DataFrame:
        """Lines for `figures.curves`: the measure of each arm's policies over the steps taken, the start first."""
        lines = []
        for arm in arms:
            by_step = self._of(arm).pivot(index="step", columns="seed", values=measure.column).sort_index()
            values = np.vstack([self.values(self.start, measure), measure.scale * by_step.to_numpy()])
            lines.append(seed_means.curve(arm, [0, *by_step.index], list(values.T), kind="retrained"))
        return pd.concat(lines, ignore_index=True)

    def samples(self, arms: Iterable[str] | None = None, *, shown: int = 4, seed: int = 0) -> pd.DataFrame:
        """The same questions answered by final policies under one seed, with true and learned reward."""
        own = self.answers[(self.answers["seed"] == seed) & (self.answers["point"] == FINAL)]
        names = {"question": "question", "model": "policy", "text": "answer", "quality": "true reward"}
        if own["learned"].notna().any():
            names["learned"] = "learned reward"
        wanted = dict.fromkeys(own["model"]) if arms is None else arms
        rows = [
            (question, arm) for question in np.linspace(0, own["question"].max(), shown).astype(int) for arm in wanted
        ]
        table = own.round({"learned": 2}).rename(columns=names).set_index(["question", "policy"])
        return table.loc[rows, list(names.values())[2:]].reset_index()

    def _require(self, *arms: str) -> None:
        for arm in arms:
            if arm not in self.arms:
                raise ValueError(f"no arm named {arm!r}; there are {', '.join(self.arms)}")

    def _of(self, arm: str) -> pd.DataFrame:
        return self.frame[self.frame["model"] == arm]


@dataclass(frozen=True)
class Pool:
    """Answers of one model, many to each question. By seed: for each of quality, learned and words a list of questions,
    each a list of numbers, one an answer."""

    by_seed: list[Mapping[str, list[list[float]]]]

    @classmethod
    def of(cls, folders: Sequence[Path]) -> "Pool":
        """The pools of finished best-of-n stages, a folder a seed."""
        return cls([files.read_json(folder / "pool.json") for folder in folders])

    @property
    def samples(self) -> int:
        """Answers to each question."""
        return len(self.by_seed[0]["quality"][0])

    def best(self, n: int, column: str = "quality") -> list[float]:
        """A value a seed: mean over questions of what the best of n by the learned reward has of `column`, the
        expectation over all subsets of the pool."""
        return [
            float(np.mean([
                best_of_n.expected_best(ranked, values, n=n)
                for ranked, values in zip(pool["learned"], pool[column], strict=True)
            ]))
            for pool in self.by_seed
        ]  # fmt: skip

    def mean(self, column: str = "quality") -> list[float]:
        """A value a seed: the mean of all answers."""
        return [float(np.mean(pool[column])) for pool in self.by_seed]

    def points(self, arm: str, counts: Iterable[int] = COUNTS) -> pd.DataFrame:
        """Best-of-n as rows of `Points.frame`, for each n that the pool allows; KL by its bound."""
        by_n = {
            n: {name: self.best(n, name) for name in ("quality", "learned", "words")}
            for n in counts
            if n <= self.samples
        }
        return pd.DataFrame([
            {"seed": seed, "model": arm, "point": f"n = {n}", "kl": best_of_n.kl_bound(n),
             **{name: values[seed] for name, values in means.items()}}
            for n, means in by_n.items()
            for seed in range(len(self.by_seed))
        ])  # fmt: skip


def steps_taken(stage: Stage, point: str) -> int:
    """Rollouts, or epochs, after which a training left a policy; 0 for a training that counts neither."""
    if point == FINAL:
        recipe = stage.recipe
        return recipe.epochs if isinstance(recipe, Training) else getattr(recipe, "steps", 0)
    return int(point.rpartition("/")[2])


def _on_pairs(policy: Model) -> dict[str, float]:
    """What the training of a final policy measured on held-out pairs; nothing where it did not."""
    measured = {} if policy.folder else metrics(policy.stage)
    names = [*(measure.column for measure in ON_PAIRS), "held_out_pairs"]
    return {name: measured[name] for name in names} if set(names) <= set(measured) else {}


def _means(row: Mapping[str, Any], begun: Mapping[str, Any]) -> dict[str, float]:
    """One policy's numbers; `begun`: the row of the start, on the same questions."""
    won = np.sign(np.subtract(row["quality"], begun["quality"])) + 1
    return {
        "kl": max(row["kl"], 0.0),
        **{name: float(np.mean(row[name])) if name in row else np.nan for name in MEANS},
        "win": 50 * float(np.mean(won)),
    }
