"""A dDPO run epoch by epoch: how its implicit reward ranks its pairs, and where log-probabilities go.

Everything is measured on all pairs by the model as it stood after the epoch. A trainer's own log has each batch just
before the model learns from it, so its first epoch is on pairs that were not seen yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.engine.scheduler import get, get_many
from zephyr_lab.lab import seed_means
from zephyr_lab.lab import zephyr_stages as stages
from zephyr_lab.lab.arms import Arm
from zephyr_lab.lab.by_seed import ValuesBySeed

THE_START = "the start"
ALL_HELD_OUT = "held out"  # beside TRAIN and TEST, which leave out pairs of equal texts
SAMPLED = "sampled"  # prompts of held-out pairs that the model answered


@dataclass(frozen=True)
class EpochMeasure:
    """A column of `RunEpochs.frame`, its name in a table, and what it is a mean over."""

    metric: str
    column: str
    over: str = ALL_HELD_OUT


RANKED = (
    EpochMeasure("training pairs", TRAIN, TRAIN),
    EpochMeasure("held-out pairs", TEST, TEST),
    EpochMeasure("gap", "gap", TEST),
)
MOVED = (
    EpochMeasure("held-out accuracy", "accuracy"),
    EpochMeasure("log-prob of chosen", "log_prob_chosen"),
    EpochMeasure("log-prob of rejected", "log_prob_rejected"),
    EpochMeasure("KL to the reference", "kl", SAMPLED),
    EpochMeasure("tokens of an answer", "length", SAMPLED),
)
# The measures that claims.toml names.
MEASURES = {
    "accuracy, training - held out": RANKED[-1],
    "log-prob of chosen": MOVED[1],
    "log-prob, rejected - chosen": EpochMeasure("rejected - chosen", "rejected_less_chosen"),
}


@dataclass(frozen=True)
class RunEpochs(ValuesBySeed):
    """One run under every seed. Its arms are the model at the start and after each epoch.

    frame: a row a seed and arm. train, test: accuracy of the implicit reward on the training pairs and on the held-out
    ones, ties half, pairs of equal texts left out; gap: their difference. accuracy, log_prob_chosen, log_prob_rejected,
    ...: means over all held-out pairs, in nats; kl, length: of answers sampled at temperature 1. counts: how many
    TRAIN, TEST, ALL_HELD_OUT and SAMPLED are.
    """

    frame: pd.DataFrame
    counts: Mapping[str, int]

    @classmethod
    def of(cls, run: Arm) -> "RunEpochs":
        """The epochs of a run: it is trained, and its models rank the pairs, where missing.

        Raises TypeError for an arm that is no dDPO, ValueError for a run as it was before its end.
        """
        if run.of(0).folder:
            raise ValueError(
                f"this is a run in its folder {run.of(0).folder}; name the whole run, whose epochs are arms"
            )
        trained = run.stages()
        ranked = get_many([stages.pair_accuracy(stage) for stage in trained])
        frames = [_read(seed, *folders) for seed, folders in enumerate(zip(get_many(trained), ranked, strict=True))]
        accuracies = [files.read_json(folder / "accuracy.json") for folder in ranked]
        pairs = {
            split: min(int(row["pairs"]) for rows in accuracies for row in rows if row["split"] == split)
            for split in (TRAIN, TEST)
        }
        used = int(files.read_json(get(trained[0]) / "rows.json")[TEST]["used"])
        sampled = min(trained[0].recipe.sampled_prompts, used)
        return cls(pd.concat(frames, ignore_index=True), {**pairs, ALL_HELD_OUT: used, SAMPLED: sampled})

    @property
    def measures(self) -> Mapping[str, EpochMeasure]:
        """What claims.toml can name of the arms: "the start", "after epoch 1", ..."""
        return MEASURES

    def values(self, arm: str, measure: EpochMeasure) -> pd.Series:
        """The measure of one arm, by seed. Raises ValueError for an arm that the run does not have."""
        self.require(arm)
        return self.frame[self.frame["model"] == arm].set_index("seed")[measure.column].astype(float)

    def count(self, measure: EpochMeasure) -> int:
        """How many pairs or prompts each value is a mean over."""
        return self.counts[measure.over]

    def means(self, *measures: EpochMeasure, start: str | None = THE_START) -> pd.DataFrame:
        """Tidy frame of measures, a row an arm. start: what the first arm is called in it; None leaves it out."""
        table = super().means(*measures, arms=self.arms if start is not None else self.arms[1:])
        return table if start is None else table.replace({"row": {THE_START: start}})

    def curves(self, names: Mapping[str, str]) -> pd.DataFrame:
        """Accuracy on TRAIN and TEST after each epoch, as `figures.curves` draws it: `names` gives each its line.

        Before the first step policy and reference agree on everything: every pair is a tie, 0.5.
        """
        by_seed = [part for _, part in self.frame.groupby("seed")]
        return pd.concat(
            [
                seed_means.curve(series, range(len(self.arms)), [part[split] for part in by_seed], kind="retrained")
                for split, series in names.items()
            ],
            ignore_index=True,
        )


def _read(seed: int, trained: Path, ranked: Path) -> pd.DataFrame:
    """The rows of one seed: held_out.json of the run, accuracy.json of its ranking."""
    held_out = pd.DataFrame(files.read_json(trained / "held_out.json"))
    accuracy = pd.DataFrame(files.read_json(ranked / "accuracy.json"))
    by_split = accuracy.pivot(index="split", columns="model", values="accuracy").assign(start=0.5)
    models = list(held_out["model"])
    shown = {"start": THE_START, "final": f"after epoch {len(models) - 1}"}
    splits = {split: by_split.loc[split, models].to_numpy() for split in (TRAIN, TEST)}
    return held_out.assign(
        seed=seed,
        model=[shown.get(name, f"after epoch {name.removeprefix('epochs/')}") for name in models],
        **splits,
        gap=splits[TRAIN] - splits[TEST],
        rejected_less_chosen=held_out["log_prob_rejected"] - held_out["log_prob_chosen"],
    )
