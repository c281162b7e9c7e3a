"""A dDPO run epoch by epoch: from files to accuracies, gaps, curves and effects."""

import pandas as pd
import pytest

from zephyr_lab.core import files
from zephyr_lab.lab import Lab
from zephyr_lab.lab.zephyr import run_epochs
from zephyr_lab.lab.zephyr.run_epochs import (
    ALL_HELD_OUT,
    MEASURES,
    MOVED,
    RANKED,
    SAMPLED,
    THE_START,
    EpochMeasure,
    RunEpochs,
)
from zephyr_lab.reporting import claims as registry
from zephyr_lab.reporting import tables

NAMES = ("start", "epochs/1", "epochs/2", "final")
COUNTS = {"train": 900, "test": 270, ALL_HELD_OUT: 300, SAMPLED: 64}


def write(folder, *, gaps=(0.1, 0.15, 0.2), chosen=0.2, rejected=-1.0):
    """A run of three epochs whose log-probabilities move evenly by `chosen` and `rejected` nats in all."""
    held_out = [
        {"model": name, "accuracy": 0.5, "kl": place, "length": 10.0}
        | {"log_prob_chosen": -5 + chosen * place / 3, "log_prob_rejected": -9 + rejected * place / 3}
        for place, name in enumerate(NAMES)
    ]
    ranked = [
        {"model": name, "split": split, "accuracy": 0.7 + (gap if split == "train" else 0), "pairs": COUNTS[split]}
        for name, gap in zip(NAMES[1:], gaps, strict=True)
        for split in ("train", "test")
    ]
    files.write_json(folder / "held_out.json", held_out)
    files.write_json(folder / "accuracy.json", ranked)
    return folder


def run(tmp_path, *seeds):
    """The epochs of a run with these values under its seeds."""
    folders = [write(tmp_path / str(seed), **values) for seed, values in enumerate(seeds)]
    frames = [run_epochs._read(seed, folder, folder) for seed, folder in enumerate(folders)]
    return RunEpochs(pd.concat(frames, ignore_index=True), COUNTS)


def test_arms_are_the_start_and_every_epoch(tmp_path):
    epochs = run(tmp_path, {}, {})
    assert epochs.arms == [THE_START, "after epoch 1", "after epoch 2", "after epoch 3"]
    with pytest.raises(ValueError, match="no arm named 'after epoch 4'; there are the start, "):
        epochs.values("after epoch 4", RANKED[0])


def test_accuracy_begins_at_a_half_and_the_gap_is_training_less_held_out(tmp_path):
    epochs = run(tmp_path, {"gaps": (0.1, 0.1, 0.2)}, {"gaps": (0.1, 0.1, 0.3)})
    curve = epochs.curves({"train": "in training", "test": "eval"})
    train = curve[curve["series"] == "in training"]
    assert train["x"].tolist() == [0, 1, 2, 3] and train["y"].tolist() == pytest.approx([0.5, 0.8, 0.8, 0.95])
    table = epochs.means(*RANKED, start=None).set_index(["row", "metric"])
    assert table.loc[("after epoch 3", "gap"), "value"] == pytest.approx(0.25)
    assert table.loc[("after epoch 3", "training pairs"), "n"] == 900
    assert epochs.difference("after epoch 3", "after epoch 1", RANKED[-1]).tolist() == pytest.approx([0.1, 0.2])


def test_a_table_calls_the_start_as_it_is_told(tmp_path):
    table = run(tmp_path, {}, {"chosen": 0.4}).means(EpochMeasure("chosen", "log_prob_chosen"), start="before")
    assert table["row"].tolist()[0] == "before" and table["value"].iloc[-1] == pytest.approx(-4.7)
    assert set(table["n"]) == {300}


def test_what_was_measured_on_sampled_answers_says_how_many(tmp_path):
    table = run(tmp_path, {}, {}).means(*MOVED).set_index(["row", "metric"])
    counts = table.loc["after epoch 3", "n"].to_dict()
    assert counts == {
        "held-out accuracy": 300, "log-prob of chosen": 300, "log-prob of rejected": 300,
        "KL to the reference": 64, "tokens of an answer": 64,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gap", "chosen", "verdicts"),
    [(0.3, -2.0, ["reproduced", "reproduced"]), (0.05, 2.0, ["contradicted", "contradicted"])],
)
def test_flipping_the_data_flips_the_verdicts(tmp_path, gap, chosen, verdicts):
    seeds = [
        {"gaps": (0.1, 0.1, gap + 0.001 * seed), "chosen": chosen + 0.01 * seed, "rejected": -4.0} for seed in range(3)
    ]
    epochs = run(tmp_path, *seeds)
    claims = {claim.id: claim for claim in registry.load("zephyr")}
    for id, verdict in zip(("Z4", "Z15"), verdicts, strict=True):
        part = claims[id].parts[0]
        measured = tables.estimate(epochs.effect(id, part))
        assert registry.verdict(measured, direction=part.direction, margin=part.margin) == verdict
    assert epochs.differences({"d": ("after epoch 3", THE_START)}, MEASURES["log-prob, rejected - chosen"])[
        "value"
    ].item() == pytest.approx(-4 - chosen - 0.01)


def test_what_is_no_whole_run_of_ddpo_is_refused():
    lab = Lab("zephyr", "smoke", 2)
    sft = lab.sft(lab.base(), lab.dialogues())
    with pytest.raises(ValueError, match="name the whole run"):
        lab.by_epoch(lab.dpo(sft, lab.pairs(), epochs=3).after_epoch(1))
    with pytest.raises(TypeError, match="expected a dDPO stage, got dsft"):
        lab.by_epoch(sft)
