"""A base model is the same bytes however often its training is killed, and it learns."""

import math
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tiny_models import RECIPE, small_model, small_tokenizer
from zephyr_lab.core.files import read_json
from zephyr_lab.data.packing import document_positions, pack
from zephyr_lab.methods.loop import drawn_places
from zephyr_lab.methods.pretrain import packed_loss
from zephyr_lab.methods.recipes.pretrain import HubModel, Pretrain
from zephyr_lab.methods.stages import pretrain
from zephyr_lab.models import saved


def build(folder: Path, recipe: Pretrain = RECIPE, seed: int = 0, reached=None, pause: float = 0.0) -> dict[str, float]:
    """Build as a worker does: `out` starts empty, checkpoints stay. Tells the step in `reached`, if given."""

    def progress(step, total, **numbers):
        if reached is not None:
            reached.value = step
        time.sleep(pause)

    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    for path in out.iterdir():
        path.unlink()
    (folder / "checkpoints").mkdir(exist_ok=True)
    context = SimpleNamespace(checkpoints=folder / "checkpoints", progress=progress)
    return pretrain.build(recipe, seed=seed, inputs={}, out=out, context=context)


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, build(folder)


def test_it_learns_and_says_how_well(unbroken):
    folder, metrics = unbroken
    losses = read_json(folder / "out" / "losses.json")
    assert len(losses) == RECIPE.steps
    assert losses[0] == pytest.approx(math.log(640), abs=0.4)  # nothing known yet: about ln(entries)
    assert metrics["loss"] == pytest.approx(sum(losses[-6:]) / 6)
    assert metrics["loss"] < losses[0] - 2
    assert metrics["held_out_loss"] == pytest.approx(metrics["loss"], abs=0.5)


def test_the_artefact_is_a_model_that_loads(unbroken):
    folder, metrics = unbroken
    model, tokenizer = saved.load_model(folder / "out"), saved.load_tokenizer(folder / "out")
    held_out = pretrain.held_out(RECIPE, tokenizer)
    with torch.inference_mode():
        assert packed_loss(model, tokenizer, held_out).item() == metrics["held_out_loss"]
    assert {path.suffix for path in (folder / "out").iterdir()} == {".json", ".safetensors"}


def test_killed_at_random_moments_it_ends_in_the_same_bytes(unbroken, tmp_path):
    # A fork server that has torch loaded makes each new process cost milliseconds.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["zephyr_lab.methods.stages.pretrain"])
    moments, reached = random.Random(0), server.Value("i", 0)

    def start(pause):
        worker = server.Process(target=build, args=(tmp_path, RECIPE, 0, reached, pause))
        worker.start()
        return worker

    for step in sorted(moments.sample(range(1, RECIPE.steps - 5), 6)):
        worker = start(pause=0.01)
        while reached.value < step and worker.is_alive():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.03))  # amid a step, or amid a checkpoint
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
    worker = start(pause=0.0)
    worker.join()
    assert worker.exitcode == 0
    own, wanted = contents(tmp_path), contents(unbroken[0])
    assert [name for name in own.keys() | wanted.keys() if own.get(name) != wanted.get(name)] == []


def test_another_seed_is_another_model_with_the_same_tokenizer(unbroken, tmp_path):
    build(tmp_path, replace(RECIPE, steps=8), seed=1)
    own, other = contents(unbroken[0]), contents(tmp_path)
    assert own["model.safetensors"] != other["model.safetensors"]
    assert own["tokenizer.json"] == other["tokenizer.json"]


def test_one_thread_and_float32(unbroken):
    assert torch.get_num_threads() == 1
    assert {parameter.dtype for parameter in saved.load_model(unbroken[0] / "out").parameters()} == {torch.float32}


def test_the_loss_is_the_mean_over_tokens_that_follow_another():
    model, tokenizer = small_model(), small_tokenizer()
    documents = [[300, 301, 302], [310, 311]]
    rows = pack(documents, length=9, eos_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id)
    assert document_positions(rows, eos_id=2).tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1]]
    terms = []
    for document in documents:
        ids = [*document, tokenizer.eos_token_id]
        with torch.inference_mode():
            log_probs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        terms += [-log_probs[place, token].item() for place, token in enumerate(ids[1:])]
    assert packed_loss(model, tokenizer, rows).item() == pytest.approx(sum(terms) / 5, rel=1e-5)


def test_every_row_is_read_once_before_any_is_read_again():
    order = [row for rows in drawn_places(10, rounds=5, at_once=5, seed=3) for row in rows]
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert order[:10] != order[10:20]
    assert len(order) == 25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world": "huge"}, "world must be one of tiny, large, got 'huge'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate and clip must be positive"),
        ({"row_length": 256}, "exceeds the model's context"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **changes)


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', got 'tpu'"):
        build(tmp_path, replace(RECIPE, device="tpu"))


def test_the_commit_that_was_found_is_what_the_stage_names(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(model, **options):
        asked.update(model=model, **options)
        return str(tmp_path / "models--owner--name" / "snapshots" / "0123abc")

    monkeypatch.setattr(pretrain, "snapshot_download", snapshot_download)
    context = SimpleNamespace(checkpoints=tmp_path, progress=lambda *steps, **numbers: None)
    recipe = HubModel(model="owner/name", revision="main")
    assert pretrain.build_hub_model(recipe, seed=0, inputs={}, out=tmp_path, context=context) == {}
    assert (asked["model"], asked["revision"]) == ("owner/name", "main")
    assert "*.bin" not in asked["allow_patterns"]  # pickles can run code
    assert read_json(tmp_path / "hub.json") == {"model": "owner/name", "commit": "0123abc"}
