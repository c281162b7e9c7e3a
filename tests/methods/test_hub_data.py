"""Real data as stages: rows of a set in the layouts the trainings read, drawn by seed, never twice in both splits."""

import json
from dataclasses import replace

import pytest

from zephyr_lab.core.rows import BadRow, Row
from zephyr_lab.data import splits
from zephyr_lab.methods.recipes.data import HubDialogues, HubPairs
from zephyr_lab.methods.stages import hub_data

DIALOGUES = HubDialogues(
    id="owner/chat", revision="main", train="train_sft", test="test_sft", rows=30, held_out=5, filters=()
)
PAIRS = HubPairs(
    id="owner/scored",
    revision="main",
    split="train",
    rows=30,
    held_out=8,
    chosen="mean_rating",
    rejected="worst",
    most_chosen=float("inf"),
)


def chat(number):
    messages = [
        {"role": "user", "content": f"question {number}?"},
        {"role": "assistant", "content": f"Answer {number}, cut" if number % 4 == 0 else f"Answer {number}."},
    ]
    return {"prompt_id": str(number), "messages": messages}


def scored(number):
    def completion(place):
        return {
            "model": f"m{place}",
            "response": f"Answer {number}.{place}",
            "annotations": {name: {"Rating": str(5 - place)} for name in ("helpfulness", "honesty")},
            "overall_score": 5.0,
        }

    completions = [completion(place) for place in range(1 + number % 2, 4)]
    return {"instruction": f"prompt {number % 40}", "completions": completions}


class StubHub:
    def __init__(self, id, revision):
        self.name = f"{id} at {revision}"
        self.made = chat if id == "owner/chat" else scored

    def splits(self):
        return ("train", "train_sft", "test_sft")

    def rows(self, split):
        yield BadRow(1, "messages", "is missing", "")
        yield from (Row(number, self.made(number + 1000 * (split == "test_sft"))) for number in range(2, 62))


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    monkeypatch.setattr(hub_data, "Hub", StubHub)


def build(recipe, folder, *, seed=0):
    folder.mkdir()
    function = hub_data.build_dialogues if isinstance(recipe, HubDialogues) else hub_data.build_pairs
    return function(recipe, seed=seed, inputs={}, out=folder, context=None)


def test_dialogues_are_drawn_and_counted(tmp_path):
    assert build(DIALOGUES, tmp_path / "a") == {"rows": 30, "kept": 30, "unusable": 1}
    train = splits.dialogue_rows(tmp_path / "a", "train").rows
    test = splits.dialogue_rows(tmp_path / "a", "test").rows
    assert (len(train), len(test)) == (30, 5)
    assert train[0][0]["content"].startswith("question ")


def test_a_seed_draws_the_same_rows_again_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build(DIALOGUES, tmp_path / name, seed=seed)
    texts = [(tmp_path / name / "train.jsonl").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_filters_apply(tmp_path):
    metrics = build(replace(DIALOGUES, filters=("truncated",), rows=60), tmp_path / "a")
    assert metrics == {"rows": 60, "kept": 45, "unusable": 1}  # one in four is cut off
    assert json.loads((tmp_path / "a" / "filters.json").read_text())["train"]["rules"]["truncated"]["dialogues"] == 15


def test_pairs_have_the_layout_that_training_reads_and_share_no_prompt(tmp_path):
    metrics = build(PAIRS, tmp_path / "a")
    train = splits.pair_rows(tmp_path / "a", "train").rows
    test = splits.pair_rows(tmp_path / "a", "test").rows
    assert len(test) == 8 and metrics["pairs"] == len(train) <= 30
    assert not {pair.prompt[0]["content"] for pair in train} & {pair.prompt[0]["content"] for pair in test}
    assert all(pair.rejected.endswith(".3") for pair in train)
    assert metrics["score_chosen"] > metrics["score_rejected"] == 2.0


def test_the_best_chosen_answers_can_be_left_out(tmp_path):
    metrics = build(replace(PAIRS, most_chosen=3.5), tmp_path / "a")
    train = splits.pair_rows(tmp_path / "a", "train").rows
    assert metrics["score_chosen"] == 3.0
    assert {pair.chosen[-2:] for pair in train} == {".2"}


def test_a_set_that_leaves_nothing_to_train_on_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^owner/scored at main gave 0 pairs, none beyond the 8 held out$"):
        build(replace(PAIRS, most_chosen=1.0), tmp_path / "a")
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        replace(PAIRS, rows=0)
