"""Frames and curves of KD and DAE: paired over common seeds, means of parts of a run, and what an evaluation needs."""

import pandas as pd
import pytest

from kd_answers import chat
from zephyr_lab.core import files
from zephyr_lab.engine import stages
from zephyr_lab.lab import kd_scores, kd_stages, zephyr_stages
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.methods.recipes.kd_evaluate import DIALOGUES, START


def answers():
    return pd.concat([chat({"ours": 7.0}, ["ours"], [0, 1, 2]), chat({"theirs": 6.0}, ["theirs"], [1, 2, 3])])


def test_differences_are_taken_over_the_seeds_that_both_have():
    values = kd_scores.difference(answers(), "ours", "theirs")
    assert list(values.index) == [1, 2]
    assert values.to_numpy() == pytest.approx(1.0)
    (row,) = kd_scores.differences(answers(), {"gain": ("ours", "theirs")}).to_dict("records")
    assert (row["row"], row["seeds"], row["n"]) == ("gain", 2, 3)
    assert row["value"] == pytest.approx(1.0)


def test_models_without_a_common_seed_are_refused():
    apart = pd.concat([chat({}, ["ours"], [0]), chat({}, ["theirs"], [1])])
    with pytest.raises(ValueError, match="'ours' and 'theirs' have no seed in common"):
        kd_scores.difference(apart, "ours", "theirs")


@pytest.mark.parametrize(
    ("first", "last", "mean"),
    [(0.0, 0.1, 0.0), (0.9, 1.0, 9.0), (0.75, 1.0, 8.0), (0.0, 1.0, 4.5)],
)
def test_a_part_of_a_run_is_its_logs_and_at_least_one(first, last, mean):
    log = pd.DataFrame({"loss": [float(step) for step in range(10)], "other": [None] * 10})
    assert kd_scores.part_mean(log, "loss", first=first, last=last) == mean
    short = pd.DataFrame({"loss": [3.0, 5.0]})
    assert kd_scores.part_mean(short, "loss", last=0.1) == 3.0
    assert kd_scores.part_mean(short, "loss", first=0.9) == 5.0


def test_curves_are_means_over_seeds_of_logged_steps_alone():
    logs = [pd.DataFrame({"step": [5, 7, 10], "loss": [1.0 + seed, None, 3.0 + seed]}) for seed in (0, 1)]
    found = kd_scores.curves({"1x": logs}, "loss")
    assert found["x"].tolist() == [5, 10]
    assert found["y"].tolist() == [1.5, 3.5]
    assert set(found["series"]) == {"1x"} and (found["low"] < found["y"]).all()


def test_an_evaluation_names_models_folders_and_what_retention_needs():
    base = zephyr_stages.base("tiny")
    plain = kd_scores.evaluation("tiny", 3, {"base": base, "kept": Model(base.stage, "steps/5")}, per_group=0)
    assert plain.recipe.models == ("base", "kept") and plain.recipe.folders == ("", "steps/5")
    assert (plain.seed, plain.recipe.per_group, plain.recipe.hot) == (3, 0, False)
    assert set(plain.inputs) == {"base", "kept"}
    kept = kd_scores.evaluation("tiny", 3, {"base": base}, start=Model(base.stage, "steps/5"))
    assert kept.recipe.start == "steps/5"
    assert stages.key(kept.inputs[START]) == stages.key(base.stage)
    assert stages.key(kept.inputs[DIALOGUES]) == stages.key(kd_stages.random_dialogues("tiny", 3))


def test_frames_of_several_stages_bear_the_stages_seeds(tmp_path, monkeypatch):
    made = [kd_scores.evaluation("tiny", seed, {"base": zephyr_stages.base("tiny")}, per_group=0) for seed in (4, 7)]
    for stage in made:
        files.write_json(tmp_path / str(stage.seed) / "answers.json", {"model": ["base"] * 2, "score": [1.0, 2.0]})
        files.write_json(tmp_path / str(stage.seed) / "divergence.json", [{"model": "base", "kl": 0.1, "tokens": 9.0}])
    monkeypatch.setattr(kd_scores, "get_many", lambda wanted: [tmp_path / str(stage.seed) for stage in wanted])
    assert kd_scores.chat_answers(made)["seed"].tolist() == [4, 4, 7, 7]
    far = kd_scores.divergences(made)
    assert far[["seed", "model", "kl"]].to_dict("list") == {"seed": [4, 7], "model": ["base"] * 2, "kl": [0.1] * 2}
    (row,) = kd_scores.retention(far, ["base"]).to_dict("records")
    assert (row["value"], row["n"], row["seeds"]) == (pytest.approx(0.1), 9, 2)
