"""Pairs by objective: the same prompts and answers as the rated pairs, other labels."""

import dataclasses
import json

import pytest

import zephyr_runs
from zephyr_lab.methods.recipes.data import JudgedPairs
from zephyr_lab.methods.stages import world_data

RECIPE = JudgedPairs(**dataclasses.asdict(zephyr_runs.PAIRS), objective="quality", judge_sd=0.0)


def built(folder, **changes):
    folder.mkdir()
    metrics = world_data.build_judged_pairs(
        dataclasses.replace(RECIPE, **changes), seed=0, inputs={}, out=folder, context=None
    )
    return metrics, [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def test_they_are_on_the_prompts_of_the_rated_pairs(tmp_path):
    (tmp_path / "rated").mkdir()
    world_data.build_pairs(zephyr_runs.PAIRS, seed=0, inputs={}, out=tmp_path / "rated", context=None)
    rated = [json.loads(line) for line in (tmp_path / "rated" / "train.jsonl").read_text().splitlines()]
    _, judged = built(tmp_path / "judged")
    assert {row["prompt_id"] for row in rated} == {row["prompt_id"] for row in judged}
    one = {row["prompt_id"]: row for row in rated}
    same = [row["chosen"] == one[row["prompt_id"]]["chosen"] for row in judged]
    assert any(same) and not all(same)


def test_a_judge_without_noise_is_never_wrong(tmp_path):
    metrics, rows = built(tmp_path / "exact")
    assert metrics["agreement"] >= 0.9  # ties count half
    assert all(row["score_chosen"] >= row["score_rejected"] for row in rows)
    assert metrics["value_chosen"] > metrics["value_rejected"]


def test_noise_makes_it_err(tmp_path):
    exact, noisy = built(tmp_path / "exact")[0], built(tmp_path / "noisy", judge_sd=8.0)[0]
    assert noisy["agreement"] < exact["agreement"]


def test_the_brief_judge_chooses_shorter_answers(tmp_path):
    quality, brief = built(tmp_path / "quality")[0], built(tmp_path / "brief", objective="brief")[0]
    assert brief["words_chosen"] < quality["words_chosen"]


def test_test_prompts_are_not_among_those_of_training(tmp_path):
    _, rows = built(tmp_path / "pairs")
    test = [json.loads(line) for line in (tmp_path / "pairs" / "test.jsonl").read_text().splitlines()]
    assert len(test) == RECIPE.held_out
    assert not {row["prompt_id"] for row in rows} & {row["prompt_id"] for row in test}


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="objective must be one of quality, brief, got 'kind'"):
        dataclasses.replace(RECIPE, objective="kind")
