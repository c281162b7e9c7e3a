"""One sampled answer of each policy to every held-out question, and what its training measured on held-out pairs.

The objective of RLHF is a mean over answers drawn from the policy, so true reward, KL to the start and words are
measured on draws at temperature 1. A number is one a seed; differences are paired by seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab.answer_scores import Measure
from zephyr_lab.lab.by_seed import KL, QUALITY, WORDS, ValuesBySeed
from zephyr_lab.lab.zephyr_stages import Model

RANKED = Measure("held-out pairs ranked right, %", "held_out_accuracy_mean", scale=100.0)
MOVED_CHOSEN = Measure("log-prob of chosen, change in nats", "held_out_moved_chosen")
MOVED_REJECTED = Measure("log-prob of rejected, change in nats", "held_out_moved_rejected")
ON_PAIRS = (RANKED, MOVED_CHOSEN, MOVED_REJECTED)
# The measures that claims.toml can name.
MEASURES = {
    "true reward": QUALITY,
    "KL": KL,
    "words": WORDS,
    "held-out pairs ranked right": RANKED,
    "log-prob of chosen": MOVED_CHOSEN,
    "log-prob of rejected": MOVED_REJECTED,
}


@dataclass(frozen=True)
class SampledAnswers(ValuesBySeed):
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

    def values(self, arm: str, measure: Measure = QUALITY) -> pd.Series:
        """The measure of one arm, a value a seed; empty where its training did not measure it.

        Raises ValueError for an arm that was not asked.
        """
        own = self.frame[self.frame["model"] == arm]
        if own.empty:
            raise ValueError(f"no answers of an arm named {arm!r}; there are {', '.join(self.arms)}")
        if measure.column not in own:
            return pd.Series(dtype=float)
        return measure.scale * own.set_index("seed")[measure.column].dropna().astype(float).sort_index()

    def named(self, names: Mapping[str, str]) -> "SampledAnswers":
        """Some arms under other names, in that order: `names` gives each new name its arm."""
        lacking = [arm for arm in names.values() if arm not in self.arms]
        if lacking:
            raise ValueError(f"no answers of an arm named {lacking[0]!r}; there are {', '.join(self.arms)}")
        parts = [self.frame[self.frame["model"] == arm].assign(model=name) for name, arm in names.items()]
        return replace(self, frame=pd.concat(parts, ignore_index=True))

    def count(self, measure: Measure) -> int:
        """The questions that each value is a mean over, or the held-out pairs."""
        return int(self.frame["held_out_pairs" if measure in ON_PAIRS else "questions"].max())


def _on_pairs(policy: Model) -> dict[str, float]:
    """What the training of a final policy measured on held-out pairs; nothing where it did not."""
    measured = {} if policy.folder else metrics(policy.stage)
    names = [*(measure.column for measure in ON_PAIRS), "held_out_pairs"]
    return {name: measured[name] for name in names} if set(names) <= set(measured) else {}
