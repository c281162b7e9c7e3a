"""The six public sets in their published layouts, and a folder of domain data, become rows that the trainings read."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import datasets
import pytest

import stub_hub
from zephyr_lab.core.rows import BadRow, Row
from zephyr_lab.data import public_sets, splits
from zephyr_lab.methods.flagged import flagged_rows
from zephyr_lab.methods.recipes.kd_data import FolderMix, FolderPairs, PublicMix
from zephyr_lab.methods.stages import kd_public_data

# A row of each set as its card shows it.
ROWS = {
    "code_alpaca": {"instruction": "Sort the list", "input": "[2, 1]", "output": "[1, 2]"},
    "gsm8k": {"question": "2 plus 3?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"},
    "ultrachat": {
        "prompt": "Hi",
        "prompt_id": "a",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
    },
    "slim_orca": {
        "conversations": [
            {"from": "system", "value": "Be brief.", "weight": None},
            {"from": "human", "value": "Why?", "weight": 0.0},
            {"from": "gpt", "value": "Because.", "weight": 1.0},
        ]
    },
    "metamath": {"type": "GSM_Rephrased", "query": "What is 6 x 7?", "original_question": "6 x 7", "response": "42"},
    "lima": {"conversations": ["Who?", "Me.", "Sure?"], "source": "stackexchange"},
}
READ = {
    "code_alpaca": [("user", "Sort the list\n\n[2, 1]"), ("assistant", "[1, 2]")],
    "gsm8k": [("user", "2 plus 3?"), ("assistant", "2 + 3 = <<2+3=5>>5\n#### 5")],
    "ultrachat": [("user", "Hi"), ("assistant", "Hello")],
    "slim_orca": [("system", "Be brief."), ("user", "Why?"), ("assistant", "Because.")],
    "metamath": [("user", "What is 6 x 7?"), ("assistant", "42")],
    "lima": [("user", "Who?"), ("assistant", "Me.")],  # the last question has no answer
}
MIX = PublicMix(sets=tuple(ROWS), rows=(4, 4, 4, 4, 4, 4), held_out=4)
DOMAIN = FolderMix(folder="e_commerce", digest="", kinds=("extraction", "qna"), rows=10, held_out=4, domain_share=0.5)


class StubHub:
    def __init__(self, id, revision=None, config=None):
        self.name = id
        self.set_name = next(name for name, known in public_sets.SETS.items() if known.id == id)
        assert config == public_sets.SETS[self.set_name].config

    def splits(self):
        return ("train", "train_sft")

    def rows(self, split):
        assert split == public_sets.SETS[self.set_name].split
        yield BadRow(1, None, "is broken", "")
        yield from (Row(number, ROWS[self.set_name]) for number in range(2, 8))


@pytest.mark.parametrize("name", ROWS)
def test_each_set_is_read_as_published(name):
    dialogue = public_sets.named(name).dialogue(Row(1, ROWS[name]))
    assert [(message.role, message.content) for message in dialogue.messages] == READ[name]


def test_an_instruction_without_input_stands_alone():
    data = ROWS["code_alpaca"] | {"input": ""}
    dialogue = public_sets.named("code_alpaca").dialogue(Row(1, data))
    assert dialogue.messages[0].content == "Sort the list"


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("gsm8k", {"question": "2 plus 3?"}, "is missing; the columns are question"),
        (
            "slim_orca",
            {"conversations": [{"from": "tool", "value": "x"}]},
            "must be one of human, gpt, system, user, assistant, got 'tool'",
        ),
        ("lima", {"conversations": []}, "must be a list that is not empty, got an empty list"),
    ],
)
def test_a_broken_row_says_what_is_wrong(name, data, problem):
    with pytest.raises(ValueError, match=problem):
        public_sets.named(name).dialogue(Row(1, data))


def test_the_sets_are_mixed_by_count_and_split_once(tmp_path, monkeypatch):
    monkeypatch.setattr(kd_public_data, "Hub", StubHub)
    metrics = kd_public_data.build(MIX, seed=0, inputs={}, out=tmp_path, context=None)
    assert metrics["rows"] == 20 and metrics["unusable"] == 6
    assert sum(metrics[f"rows_{name}"] for name in ROWS) == 20
    train = splits.dialogue_rows(tmp_path, "train").rows
    test = splits.dialogue_rows(tmp_path, "test").rows
    assert (len(train), len(test)) == (20, 4)


def test_unknown_sets_and_too_few_rows_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kd_public_data, "Hub", StubHub)
    with pytest.raises(ValueError, match=r"^no public set named 'alpaca'; known: code_alpaca, gsm8k"):
        kd_public_data.build(
            PublicMix(sets=("alpaca",), rows=(1,), held_out=1), seed=0, inputs={}, out=tmp_path, context=None
        )
    with pytest.raises(ValueError, match=r"^the sets gave 24 rows, none beyond the 24 held out$"):
        kd_public_data.build(replace(MIX, held_out=24), seed=0, inputs={}, out=tmp_path, context=None)
    with pytest.raises(ValueError, match=r"^each of 2 sets needs a number of rows, got 1$"):
        PublicMix(sets=("gsm8k", "lima"), rows=(1,), held_out=1)


def test_a_set_is_read_from_files_of_the_published_schema_on_a_hub(tmp_path):
    folder, out = tmp_path / "hub", tmp_path / "out"
    (folder / "data").mkdir(parents=True)
    out.mkdir()
    datasets.Dataset.from_list([ROWS["slim_orca"]] * 6).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    code = """
        import json, sys
        from pathlib import Path
        from zephyr_lab.methods.stages import kd_public_data
        from zephyr_lab.methods.recipes.kd_data import PublicMix
        recipe = PublicMix(sets=("slim_orca",), rows=(5,), held_out=2)
        print(json.dumps(kd_public_data.build(recipe, seed=0, inputs={}, out=Path(sys.argv[1]), context=None)))
    """
    with stub_hub.serving(folder, public_sets.SETS["slim_orca"].id) as address:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
            "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_OFFLINE": "0",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(out)],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"rows": 3, "unusable": 0, "rows_slim_orca": 3}
    dialogues = splits.dialogue_rows(out, "train").rows
    assert [message["role"] for message in dialogues[0]] == ["system", "user", "assistant"]


def domain_row(number, kind):
    return {
        "kind": kind,
        "messages": [{"role": "user", "content": f"Card {number}"}, {"role": "assistant", "content": f"{kind}."}],
    }


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with domain rows of three kinds, and a stage of general rows."""
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(tmp_path / "data"))
    folder = tmp_path / "data" / "e_commerce"
    general = tmp_path / "general"
    for place in (folder, general):
        place.mkdir(parents=True)
    kinds = ("extraction", "qna", "summary")
    for split in ("train", "test"):
        domain = [domain_row(number, kinds[number % 3]) for number in range(12)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in domain))
        talk = [{"data": [f"Hi {number}", "Hello."]} for number in range(8)]
        (general / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in talk))
    return {"general": general}


def test_domain_rows_of_the_asked_kinds_stand_beside_general_ones(data, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    metrics = kd_public_data.build_mix(DOMAIN, seed=0, inputs=data, out=out, context=None)
    assert metrics["rows"] == 10 and metrics["domain_rows"] == 5 and metrics["unusable"] == 4  # the summaries
    assert metrics["domain_extraction"] + metrics["domain_qna"] == 5
    flagged = flagged_rows(out, "train").rows
    assert sum(row.is_domain for row in flagged) == 5


def test_domain_pairs_of_a_folder_are_split_by_prompt(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(tmp_path))
    (tmp_path / "pairs").mkdir()
    (tmp_path / "out").mkdir()
    rows = []
    for number in range(10):
        asked = [{"role": "user", "content": f"Card {number % 6}"}]
        rows.append({
            side: [*asked, {"role": "assistant", "content": f"{side} {number}"}] for side in ("chosen", "rejected")
        })  # fmt: skip
    (tmp_path / "pairs" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = FolderPairs(folder="pairs", digest="", held_out=2)
    metrics = kd_public_data.build_pairs(recipe, seed=0, inputs={}, out=tmp_path / "out", context=None)
    train = splits.pair_rows(tmp_path / "out", "train").rows
    test = splits.pair_rows(tmp_path / "out", "test").rows
    assert metrics["held_out"] == len(test) == 2 and metrics["pairs"] == len(train) >= 5
    assert not {pair.prompt[0]["content"] for pair in train} & {pair.prompt[0]["content"] for pair in test}


def test_a_missing_folder_and_too_few_rows_say_the_next_step(data, tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r"^9 domain rows of extraction, qna in e_commerce are asked for, but there are 8"
    ):
        kd_public_data.build_mix(replace(DOMAIN, domain_share=0.9), seed=0, inputs=data, out=tmp_path, context=None)
    monkeypatch.delenv("ZEPHYR_LAB_DATA")
    with pytest.raises(FileNotFoundError, match=r"^no folder 'e_commerce' of domain data; set ZEPHYR_LAB_DATA"):
        kd_public_data.build_mix(DOMAIN, seed=0, inputs=data, out=tmp_path, context=None)
