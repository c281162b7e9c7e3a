"""Figures of a real model: what is committed is whole, and numbers alone; our trainer takes TRL's steps for less."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

import smollm2
from zephyr_lab.reporting import tables

REAL = Path(__file__).parents[1] / "figures" / "real"


@pytest.mark.parametrize("name", ["dpo", "dpo_and_trl", "kd", "lora"])
def test_a_committed_figure_has_its_numbers_pictures_and_what_made_it(name):
    table = tables.check(pd.read_csv(REAL / f"{name}.csv"))
    made = json.loads((REAL / f"{name}.json").read_text())
    assert made["made_by"] == "make figures-real" and {"model", "git", "packages", "seconds"} <= made.keys()
    assert set(made["rows"]) == {"file", "sha256"}  # which rows, and none of them
    assert all(len(text) < 60 for column in ("row", "metric") for text in table[column])
    assert all((REAL / f"{name}.{ending}").stat().st_size > 1000 for ending in ("svg", "png"))


def test_the_committed_numbers_show_what_they_are_shown_for():
    def value(name, row, metric, column="value"):
        table = pd.read_csv(REAL / f"{name}.csv")
        return table[(table["row"] == row) & (table["metric"] == metric)][column].item()

    assert value("dpo", "step 60", "mean reward margin", "low") > 0
    assert value("dpo", "step 0", "the step's own rows") == pytest.approx(math.log(2), abs=1e-4)
    kl = "KL from the teacher, nats a token"
    assert value("kd", "step 20", kl, "high") < value("kd", "step 0", kl, "low")
    for shape in ("192:64:64", "32:112:112"):
        assert value("dpo_and_trl", f"ours, {shape} tokens", "weights apart from TRL's, share of their way") < 0.01
        ours, theirs = (value("dpo_and_trl", f"{name}, {shape} tokens", "peak memory, MiB") for name in ("ours", "TRL"))
        assert ours < theirs


@pytest.mark.slow
@smollm2.needs_smollm2
def test_our_trainer_ends_where_trl_s_does_and_takes_less(released):
    import real_trainings as trainings

    results = trainings.dpo_and_trl(smollm2.folder(), released("llama_factory/dpo_en.jsonl.gz"), steps=1)
    for by_trainer in results.values():
        ours, theirs = by_trainer["ours"], by_trainer["TRL"]
        assert ours["first loss"] == pytest.approx(theirs["first loss"], abs=1e-5)
        assert ours["first loss"] == pytest.approx(math.log(2), abs=1e-4)
        assert ours["apart"] < 0.01 and ours["peak_mib"] < theirs["peak_mib"]
    ours, theirs = (results["192:64:64"][name]["cpu_seconds"] for name in ("ours", "TRL"))
    assert ours < 0.85 * theirs
