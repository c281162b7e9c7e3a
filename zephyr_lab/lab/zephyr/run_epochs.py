"""A dDPO run epoch by epoch: how its implicit reward ranks its pairs, and where log-probabilities go.

Everything is measured on all pairs by the model as it stood after the epoch. A trainer's own log has each batch just
before the model learns from it, so its first epoch is on pairs that were not seen yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.lab import seed_means
from zephyr_lab.lab import zephyr_stages as stages
from zephyr_lab.lab.arms import Arm
from zephyr_lab.reporting import tables
from zephyr_lab.reporting.claims import Part

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
class RunEpochs:
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
        """The epochs of a finished or unfinished run: it is trained, and its models rank the pairs, where missing.

        Raises TypeError for an arm that is no dDPO, ValueError for a run as it stood before its end.
        """
        if run.of(0).folder:
            raise ValueError(
                f"this is a run in its folder {run.of(0).folder}; name the whole run, whose epochs are arms"
            )
        trained = [run.stage(seed) for seed in range(run.seeds)]
        ranked = get_many([stages.pair_accuracy(stage) for stage in trained])
        frames = [_read(seed, *folders) for seed, folders in enumerate(zip(get_many(trained), ranked, strict=True))]
        accuracies = [files.read_json(folder / "accuracy.json") for folder in ranked]
        pairs = {
            split: min(int(row["pairs"]) for rows in accuracies for row in rows if row["split"] == split)
            for split in (TRAIN, TEST)
        }
        rows = files.read_json(get_many(trained[:1])[0] / "rows.json")
        used = int(rows[TEST]["used"])
        sampled = min(trained[0].recipe.sampled_prompts, used)
        return cls(pd.concat(frames, ignore_index=True), {**pairs, ALL_HELD_OUT: used, SAMPLED: sampled})

    @property
    def arms(self) -> list[str]:
        """ "the start", "after epoch 1", ...: what claims.toml can compare."""
        return list(dict.fromkeys(self.frame["model"]))

    @property
    def measures(self) -> Mapping[str, EpochMeasure]:
        """What claims.toml can name of the arms."""
        return MEASURES

    def values(self, arm: str, measure: EpochMeasure) -> pd.Series:
        """The measure of one arm, by seed. Raises ValueError for an arm that the run has not."""
        if arm not in self.arms:
            raise ValueError(f"no model {arm!r} in this run; there are {', '.join(self.arms)}")
        return self.frame[self.frame["model"] == arm].set_index("seed")[measure.column].astype(float)

    def means(self, *measures: EpochMeasure, start: str | None = THE_START) -> pd.DataFrame:
        """Tidy frame of measures, a row an arm. start: what the first arm is called in it; None leaves it out."""
        names = {THE_START: start} if start is not None else {}
        return tables.frame(
            line
            for arm in (self.arms if start is not None else self.arms[1:])
            for measure in measures
            for line in seed_means.number(
                names.get(arm, arm), measure.metric, list(self.values(arm, measure)), n=self.counts[measure.over]
            )
        )

    def difference(self, ours: str, theirs: str, measure: EpochMeasure) -> pd.Series:
        """The measure of one arm less that of another, by seed."""
        return self.values(ours, measure) - self.values(theirs, measure)

    def differences(self, pairs: Mapping[str, tuple[str, str]], *measures: EpochMeasure) -> pd.DataFrame:
        """Tidy frame of first arm - second arm, paired by seed: `pairs` names each row."""
        return tables.frame(
            line
            for row, (ours, theirs) in pairs.items()
            for measure in measures
            for line in seed_means.number(
                row, measure.metric, list(self.difference(ours, theirs, measure)), n=self.counts[measure.over]
            )
        )

    def effect(self, claim: str, part: Part) -> dict[str, Any]:
        """One part of a claim: its first arm less its second."""
        measure = MEASURES[part.measure]
        values = list(self.difference(*part.arms, measure))
        return seed_means.effect(claim, part.metric, values, n=self.counts[measure.over])

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


def _read(seed: int, trained: Any, ranked: Any) -> pd.DataFrame:
    """The rows of one seed: held_out.json of the run, accuracy.json of its ranking."""
    held_out = pd.DataFrame(files.read_json(trained / "held_out.json"))
    accuracy = pd.DataFrame(files.read_json(ranked / "accuracy.json"))
    by_split = accuracy.pivot(index="model", columns="split", values="accuracy")
    epochs = len(held_out) - 1
    known = {"start": THE_START, "final": f"after epoch {epochs}"}
    names = [known.get(name, f"after epoch {name.removeprefix('epochs/')}") for name in held_out["model"]]
    splits = {
        split: [0.5 if name == "start" else by_split.loc[name, split] for name in held_out["model"]]
        for split in (TRAIN, TEST)
    }
    return held_out.assign(
        seed=seed,
        model=names,
        **splits,
        gap=pd.Series(splits[TRAIN]) - pd.Series(splits[TEST]),
        rejected_less_chosen=held_out["log_prob_rejected"] - held_out["log_prob_chosen"],
    )
