"""Accuracy of the implicit reward: ties of a model with itself, and a model that was made to prefer."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from tiny_models import small_model, small_tokenizer
from zephyr_lab.data import splits
from zephyr_lab.methods.examples import pair_examples
from zephyr_lab.methods.held_out_pairs import pair_log_probs
from zephyr_lab.methods.recipes.evaluate import PairAccuracy
from zephyr_lab.methods.stages import evaluate, world_data
from zephyr_lab.models import saved
from zephyr_runs import PAIRS

RECIPE = PairAccuracy(
    start="",
    folders=("epochs/1", ""),
    max_length=120,
    max_prompt_length=100,
    long_prompts="cut_left",
    system_turn=False,
    rows_at_once=8,
    device="cpu",
)
CUTS = {"max_length": 120, "max_prompt_length": 100, "long_prompts": "cut_left", "system_turn": False}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The reference, a run whose first epoch is the reference itself and whose end is another model, and pairs."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = small_tokenizer()
    saved.save(small_model(0), tokenizer, folder / "reference")
    saved.save(small_model(0), tokenizer, folder / "policy" / "epochs" / "1")
    saved.save(small_model(1), tokenizer, folder / "policy")
    (folder / "pairs").mkdir()
    world_data.build_pairs(PAIRS, seed=0, inputs={}, out=folder / "pairs", context=None)
    return {name: folder / name for name in ("reference", "policy", "pairs")}


def build(inputs, out, **changes):
    context = SimpleNamespace(checkpoints=out, progress=lambda *steps, **numbers: None)
    recipe = dataclasses.replace(RECIPE, **changes)
    metrics = evaluate.build_pair_accuracy(recipe, seed=0, inputs=inputs, out=out, context=context)
    rows = json.loads((out / "accuracy.json").read_text())
    return metrics, {(row["model"], row["split"]): row for row in rows}


def test_the_reference_itself_ties_on_every_pair(inputs, tmp_path):
    _, rows = build(inputs, tmp_path)
    assert rows["epochs/1", "train"]["accuracy"] == rows["epochs/1", "test"]["accuracy"] == 0.5


def test_another_model_is_counted_pair_by_pair(inputs, tmp_path):
    metrics, rows = build(inputs, tmp_path)
    for split in ("train", "test"):
        pairs = splits.pair_rows(inputs["pairs"], split).rows
        unlike = [pair for pair in pairs if pair.chosen != pair.rejected]
        examples, _ = pair_examples(small_tokenizer(), unlike, equal_answers="keep", **CUTS)
        ours, theirs = (pair_log_probs(small_model(seed), examples, rows_at_once=1) for seed in (1, 0))
        margins = (ours.chosen - theirs.chosen) - (ours.rejected - theirs.rejected)
        found = rows["final", split]
        assert found["pairs"] == metrics[split] == len(unlike)
        assert found["accuracy"] == pytest.approx((margins > 0).double().mean().item())


def test_pairs_of_equal_texts_are_left_out(inputs, tmp_path):
    pairs = splits.pair_rows(inputs["pairs"], "train").rows
    equal = sum(pair.chosen == pair.rejected for pair in pairs)
    assert equal  # else this test shows nothing
    assert build(inputs, tmp_path)[0]["train"] == len(pairs) - equal


def test_models_of_one_name_are_refused():
    with pytest.raises(ValueError, match="different"):
        dataclasses.replace(RECIPE, folders=("", ""))
