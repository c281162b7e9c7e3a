"""Decoding with and without a draft, compared: nothing differs where nothing should, and a difference is seen."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tiny_models import small_model, small_tokenizer
from zephyr_lab.data.file_steps import write_rows
from zephyr_lab.methods.recipes.draft_scores import DraftLossless
from zephyr_lab.methods.stages import draft_scores
from zephyr_lab.models import draft, draft_files, saved

RECIPE = DraftLossless(
    target_folder="", draft_folder="", prompts=0, max_new_tokens=8, length=3, sampled_prompts=1, samples=60,
    sampled_tokens=2, temperature=1.0, device="cpu",
)  # fmt: skip


class Progress:
    checkpoints = Path()

    def progress(self, *numbers, **named):
        pass


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    at = tmp_path_factory.mktemp("lossless")
    target = small_model(1)
    sizes = {"shared_experts": 1, "private_experts": 1, "shared_width": 8, "private_width": 4, "top": 1}
    shape = draft.shape_for(target, heads=4, kv_heads=2, routers=False, **sizes)
    saved.save(target, small_tokenizer(), at / "target")
    draft_files.save(draft.build(shape, target, seed=0), at / "draft", tokenizer=small_tokenizer(), notes={})
    rows = [{"data": [f"What is {number} plus 1?", "-"]} for number in range(4)]
    (at / "prompts").mkdir()
    write_rows(at / "prompts" / "test.jsonl", rows[:3])
    write_rows(at / "prompts" / "train.jsonl", [{"data": [*rows[3]["data"], "And then?", "-"]}])
    return {name: at / name for name in ("target", "draft", "prompts")}


def compared(inputs, out, recipe=RECIPE):
    metrics = draft_scores.build_lossless(recipe, seed=0, inputs=inputs, out=out, context=Progress())
    return metrics, json.loads((out / "sampled.json").read_text())


def test_a_draft_changes_no_greedy_answer(inputs, tmp_path):
    metrics, sampled = compared(inputs, tmp_path)
    assert (metrics["prompts"], metrics["differing"]) == (4, 0)
    assert metrics["tokens"] >= metrics["passes"] >= 4
    assert [sampled["prompt"], sampled["place"]] == [[0, 0], [0, 1]]
    assert all(0 <= value <= 1 for name in ("variation", "variation_plain", "p") for value in sampled[name])


def test_a_loop_that_answered_otherwise_would_be_seen(inputs, tmp_path, monkeypatch):
    real = draft_scores.speculate

    def wrong(*arguments, **named):
        return [replace(answer, ids=(*answer.ids[:-1], 0)) for answer in real(*arguments, **named)]

    monkeypatch.setattr(draft_scores, "speculate", wrong)
    metrics, _ = compared(inputs, tmp_path)
    assert metrics["differing"] == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"prompts": -1}, "prompts must not be negative, got -1"),
        ({"temperature": 0.0}, "temperature of the sampled answers must be positive, got 0.0"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **changes)
