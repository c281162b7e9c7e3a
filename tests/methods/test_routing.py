"""Figure 3's batch is the first of the trainer's own order with rows of both kinds; its losses are the trainer's."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import kd_runs
from kd_runs import DAE, Run
from tiny_models import small_tokenizer
from zephyr_lab.methods import dae, distillation
from zephyr_lab.methods.dae import flagged_rows
from zephyr_lab.methods.distillation import batch
from zephyr_lab.methods.stages import dae as stage
from zephyr_lab.methods.stages.dae import load_teachers
from zephyr_lab.models import saved

RECIPE = replace(DAE, batch=4, micro_batch=2, epochs=1)  # 24 rows, 6 of them domain


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    places = kd_runs.make_inputs(tmp_path_factory.mktemp("inputs"))
    run = Run(tmp_path_factory.mktemp("aligned"), {**places, "dialogues": places["mixed"]})
    run.build(RECIPE)
    return {**run.inputs, "aligned": run.out}


def read(inputs, folder, recipe=RECIPE, seed=0):
    context = SimpleNamespace(checkpoints=folder, progress=lambda *steps, **numbers: None)
    metrics = stage.build_routing(recipe, seed=seed, inputs=inputs, out=folder, context=context)
    return metrics, json.loads((folder / "routing.json").read_text())


def trainers_batches(inputs, folder, recipe, seed):
    """Micro-batches as the trainer itself gets them."""
    flagged = flagged_rows(inputs["dialogues"], "train").rows
    rows, _ = dae.rows_of(recipe, small_tokenizer(), flagged, seed=0)
    made = distillation.trainer(
        dae.DAETrainer, recipe, saved.load_model(inputs["student"]), small_tokenizer(),
        {"train": rows, "test": rows}, seed=seed, folder=folder,
    )  # fmt: skip
    return list(made.get_train_dataloader())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_batch_is_the_first_of_the_trainers_own_order_that_holds_both_kinds(inputs, tmp_path, seed):
    metrics, told = read(inputs, tmp_path, seed=seed)
    micro = trainers_batches(inputs, tmp_path / "trainer", RECIPE, seed)
    whole = [
        [flag for part in micro[first : first + 2] for flag in part["is_domain"].tolist()]
        for first in range(0, len(micro), 2)
    ]
    number = next(place for place, flags in enumerate(whole) if len(set(flags)) == 2)
    assert told["batch"] == number == metrics["batch"]
    assert [row["is_domain"] for row in told["rows"]] == whole[number]
    assert metrics["domain"] == sum(whole[number]) and metrics["domain"] + metrics["general"] == 4


def test_losses_are_those_of_the_start_and_of_the_end(inputs, tmp_path):
    _, told = read(inputs, tmp_path)
    micro = trainers_batches(inputs, tmp_path / "trainer", RECIPE, 0)[2 * told["batch"] :][:2]
    teachers = load_teachers(RECIPE, inputs, torch.device("cpu"))
    for name, folder in (("loss_before", "student"), ("loss_after", "aligned")):
        student = saved.load_model(inputs[folder])
        with torch.no_grad():
            expected = torch.cat([
                dae.row_means(dae.PlainDAE(teachers).routed(RECIPE, student, batch(part), part["by_expert"]))
                for part in micro
            ])  # fmt: skip
        assert [row[name] for row in told["rows"]] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-7)
    assert all((row["loss_before"] == 0) is not row["is_domain"] for row in told["rows"])  # eq. 6 at the start
    assert all(row["loss_after"] > 0 for row in told["rows"])  # a student that has moved
    assert all((row["teacher"] == "expert") is row["is_domain"] and row["tokens"] > 0 for row in told["rows"])


def test_without_a_batch_of_both_kinds_it_is_the_first():
    assert stage.first_mixed([False] * 5, [4, 3, 2, 1, 0], size=2) == (0, [4, 3])
    assert stage.first_mixed([False, False, False, True, False], [0, 1, 2, 4, 3], size=2) == (0, [0, 1])
    assert stage.first_mixed([False, False, False, True], [0, 1, 2, 3], size=2) == (1, [2, 3])


def test_of_a_large_batch_a_picture_s_worth_is_drawn():
    assert stage.batch_rows(RECIPE) == 4
    assert stage.batch_rows(replace(RECIPE, batch=128, micro_batch=64)) == stage.MOST_ROWS


def test_misrouted_rows_follow_the_teacher_that_training_gave_them(inputs, tmp_path):
    _, told = read(inputs, tmp_path, replace(RECIPE, misrouted=1.0))
    assert all((row["teacher"] == "expert") is not row["is_domain"] for row in told["rows"])
