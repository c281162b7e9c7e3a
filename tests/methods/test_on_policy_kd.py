"""On-policy KD trains on the student's own answers, the same ones after a kill."""

from dataclasses import replace

import pytest
import torch

import kd_runs
from kd_runs import ON_POLICY, Run
from zephyr_lab.methods.examples import IGNORED
from zephyr_lab.methods.on_policy_kd import OnPolicyTrainer, answer_starts
from zephyr_lab.methods.recipes.kd import KDRecipe


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return kd_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def unbroken(inputs, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("unbroken"), inputs)
    return run, run.build(ON_POLICY)


def test_answers_start_where_labels_do():
    labels = torch.tensor([IGNORED, IGNORED, 5, 6, IGNORED, 7])
    assert answer_starts(labels) == [2, 5]


def test_the_students_own_answers_take_the_place_of_one_answer_a_row(inputs, tmp_path, monkeypatch):
    kept = []
    answered = OnPolicyTrainer.answered

    def keeping(self, given, draw):
        found = answered(self, given, draw)
        kept.append((given, found))
        return found

    monkeypatch.setattr(OnPolicyTrainer, "answered", keeping)
    Run(tmp_path, inputs).build(ON_POLICY)
    assert len(kept) == 10  # 40 rows in micro-batches of 4
    for given, found in kept:
        for row in range(len(found["input_ids"])):
            labelled = (found["labels"][row] != IGNORED).nonzero().flatten()
            start = int(labelled[0])
            assert start in answer_starts(given["labels"][row])
            assert torch.equal(found["input_ids"][row, :start], given["input_ids"][row, :start])
            assert 1 <= len(labelled) <= ON_POLICY.sampled_tokens


def test_it_learns_from_its_own_answers(unbroken):
    run, metrics = unbroken
    assert metrics["held_out_prediction_loss"] < metrics["held_out_prediction_loss_start"]
    assert all(1 <= row["sampled_tokens"] <= 6 for row in run.log() if "loss" in row)


@pytest.mark.slow
def test_a_share_of_0_is_kd_on_the_data(inputs, tmp_path):
    off = Run(tmp_path / "off", inputs)
    off.build(replace(ON_POLICY, sampled_share=0.0))
    plain = Run(tmp_path / "plain", inputs)
    fields = {name: getattr(ON_POLICY, name) for name in kd_runs.KD.__dataclass_fields__}
    plain.build(KDRecipe(**fields))
    assert off.contents()["model.safetensors"] == plain.contents()["model.safetensors"]


@pytest.mark.slow
def test_killed_once_it_ends_in_the_same_bytes(unbroken, inputs, tmp_path):
    run = Run(tmp_path, inputs)
    kd_runs.kill_once(run, ON_POLICY, after=3)
    assert run.contents() == unbroken[0].contents()


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match=r"^packed must be false: answers are sampled for one dialogue a row$"):
        replace(ON_POLICY, packed=True)
    with pytest.raises(ValueError, match=r"^tokens must be 'answers', got 'all'"):
        replace(ON_POLICY, tokens="all")
