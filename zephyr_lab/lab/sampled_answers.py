"""One sampled answer of each policy to every held-out question, and what its training measured on held-out pairs.

The objective of RLHF is a mean over answers drawn from the policy, so true reward, KL to the start and words are
measured on draws at temperature 1. A number is one a seed; differences are paired by seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.answer_scores import Measure
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.reporting import tables
from zephyr_lab.reporting.claims import Part

REWARD = Measure("true reward, T = 1", "quality")
KL = Measure("KL, nats", "kl")
WORDS = Measure("words", "words")
RANKED = Measure("held-out pairs ranked right, %", "held_out_accuracy_mean", scale=100.0)
MOVED_CHOSEN = Measure("log-prob of chosen, change in nats", "held_out_moved_chosen")
MOVED_REJECTED = Measure("log-prob of rejected, change in nats", "held_out_moved_rejected")
ON_PAIRS = (RANKED, MOVED_CHOSEN, MOVED_REJECTED)
# The measures that claims.toml can name.
MEASURES = {
    "true reward": REWARD,
    "KL": KL,
    "words": WORDS,
    "held-out pairs ranked right": RANKED,
    "log-prob of chosen": MOVED_CHOSEN,
    "log-prob of rejected": MOVED_REJECTED,
}


@dataclass(frozen=True)
class SampledAnswers:
    """What policies answered, in means: a row an arm and seed, so that numbers of a seed are paired.

    Columns of `frame`: seed, model (the arm), quality (the true reward, 1 to 10), kl (to the start, nats an answer),
    words, those of `ON_PAIRS` where the training measured them, and questions and held_out_pairs, which they are means
    over.
    """

    frame: pd.DataFrame

    @classmethod
    def of(cls, asked: Mapping[str, Sequence[tuple[Model, Stage]]]) -> "SampledAnswers":
        """From finished stages: by arm the policy and its `frontier` stage of each seed."""
        rows = []
        for arm, by_seed in asked.items():
            for seed, (policy, stage) in enumerate(by_seed):
                (row,) = files.read_json(get(stage) / "frontier.json")
                rows.append({
                    "seed": seed, "model": arm, "kl": max(row["kl"], 0.0), "quality": float(np.mean(row["quality"])),
                    "words": float(np.mean(row["words"])), "questions": len(row["quality"]), **_on_pairs(policy),
                })  # fmt: skip
        return cls(pd.DataFrame(rows))

    @property
    def measures(self) -> Mapping[str, Measure]:
        """What claims.toml can name of the answers."""
        return MEASURES

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in the order they were asked."""
        return list(dict.fromkeys(self.frame["model"]))

    def values(self, arm: str, measure: Measure = REWARD) -> pd.Series:
        """The measure of one arm, a value a seed; empty where its training did not measure it.

        Raises ValueError for an arm that was not asked.
        """
        own = self.frame[self.frame["model"] == arm]
        if own.empty:
            raise ValueError(f"no answers of an arm named {arm!r}; there are {', '.join(self.arms)}")
        if measure.column not in own:
            return pd.Series(dtype=float)
        return measure.scale * own.set_index("seed")[measure.column].dropna().astype(float).sort_index()

    def means(self, *measures: Measure, arms: Iterable[str] | None = None) -> pd.DataFrame:
        """Tidy frame: each measure (the true reward) of each arm that has it; no row for one seed."""
        return tables.frame(
            line
            for arm in (self.arms if arms is None else arms)
            for measure in measures or (REWARD,)
            for line in self._line(arm, measure, self.values(arm, measure))
        )

    def difference(self, ours: str, theirs: str, measure: Measure = REWARD) -> pd.Series:
        """The measure of one arm less that of another, a value a seed that both have."""
        return (self.values(ours, measure) - self.values(theirs, measure)).dropna()

    def differences(self, pairs: Mapping[str, tuple[str, str]], *measures: Measure) -> pd.DataFrame:
        """Tidy frame of first arm - second arm, paired by seed: `pairs` names each row; no row for one seed."""
        return tables.frame(
            line
            for row, (ours, theirs) in pairs.items()
            for measure in measures or (REWARD,)
            for line in self._line(row, measure, self.difference(ours, theirs, measure))
        )

    def effect(self, claim: str, part: Part) -> dict[str, Any]:
        """One part of a claim: its first arm less its second, or the difference of two such differences."""
        measure = MEASURES[part.measure]
        values = self.difference(*part.arms[:2], measure)
        if len(part.arms) == 4:
            values = (values - self.difference(*part.arms[2:], measure)).dropna()
        return seed_means.effect(claim, part.metric, list(values), n=self._n(measure))

    def named(self, names: Mapping[str, str]) -> "SampledAnswers":
        """Some arms under other names, in that order: `names` gives each new name its arm."""
        lacking = [arm for arm in names.values() if arm not in self.arms]
        if lacking:
            raise ValueError(f"no answers of an arm named {lacking[0]!r}; there are {', '.join(self.arms)}")
        parts = [self.frame[self.frame["model"] == arm].assign(model=name) for name, arm in names.items()]
        return replace(self, frame=pd.concat(parts, ignore_index=True))

    def _line(self, row: str, measure: Measure, values: pd.Series) -> list[dict[str, Any]]:
        return seed_means.number(row, measure.metric, list(values), n=self._n(measure)) if len(values) else []

    def _n(self, measure: Measure) -> int:
        return int(self.frame["held_out_pairs" if measure in ON_PAIRS else "questions"].max())


def _on_pairs(policy: Model) -> dict[str, float]:
    """What the training of a final policy measured on held-out pairs; nothing where it did not."""
    measured = {} if policy.folder else metrics(policy.stage)
    names = [*(measure.column for measure in ON_PAIRS), "held_out_pairs"]
    return {name: measured[name] for name in names} if set(names) <= set(measured) else {}
