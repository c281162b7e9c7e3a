"""Rows of one's own: each layout in each kind of file, what is left out by name, and what the checks count."""

import csv
import gzip
import json

import pyarrow
import pytest
from pyarrow import parquet

from chat_templates import chatting
from zephyr_lab.data import own_rows
from zephyr_lab.data.languages import UNCLEAR, guess
from zephyr_lab.models.example import example_model
from zephyr_lab.models.own_template import OwnTemplate
from zephyr_lab.world import benchmark

ASKED, GOOD, BAD = "Where is the hammer?", "In the shed.", "No idea."
USER, ASSISTANT = {"role": "user", "content": ASKED}, {"role": "assistant", "content": GOOD}
WORSE = {"role": "assistant", "content": BAD}
HUMAN, GPT = {"from": "human", "value": ASKED}, {"from": "gpt", "value": GOOD}
DIALOGUES = {
    "messages": {"messages": [USER, ASSISTANT]},
    "ShareGPT": {"conversations": [HUMAN, GPT]},
    "Alpaca": {"instruction": ASKED, "input": "", "output": GOOD},
    "UltraChat": {"data": [ASKED, GOOD]},
}
PAIRS = {
    "TRL's messages": {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [WORSE]},
    "whole dialogues": {"prompt": ASKED, "chosen": [USER, ASSISTANT], "rejected": [USER, WORSE]},
    "ShareGPT": {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": BAD}},
    "Alpaca": {"instruction": ASKED, "input": "", "chosen": GOOD, "rejected": BAD},
}


def put(folder, rows, kind=".jsonl"):
    path = folder / f"rows{kind}"
    if kind == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            spelled = [
                {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()}
                for row in rows
            ]
            writer.writerows(spelled)
    else:
        lines = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(lines) if kind.endswith(".gz") else lines)
    return path


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".csv", ".parquet"])
@pytest.mark.parametrize("layout", DIALOGUES)
def test_every_layout_of_dialogues_reads_as_one(tmp_path, layout, kind):
    read = own_rows.read(put(tmp_path, [DIALOGUES[layout]] * 2, kind))
    assert read.dialogues.rows == [[USER, ASSISTANT]] * 2 and read.pairs is None and not read.rejected
    assert read.counts.to_dict("list") == {"check": ["rows", "usable", "left out"], "rows": [2, 2, 0]}


@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("layout", PAIRS)
def test_every_layout_of_pairs_reads_as_one(tmp_path, layout, kind):
    (pair,) = own_rows.read(put(tmp_path, [PAIRS[layout]], kind)).pairs.rows
    assert (pair.prompt, pair.chosen, pair.rejected) == ([USER], GOOD, BAD)


def test_plain_texts_stay_plain_and_that_is_said(tmp_path):
    read = own_rows.read(put(tmp_path, [{"prompt": ASKED, "chosen": GOOD, "rejected": BAD, "source": "me"}]))
    assert read.pairs.rows[0].prompt == ASKED
    assert "no chat template" in read.layout and read.ignored == ("source",)


def test_bad_rows_keep_their_line_numbers_and_cost_no_other(tmp_path):
    good = PAIRS["TRL's messages"]
    rows = [
        good, {**good, "prompt": [ASKED]}, "{broken", {**good, "chosen": None}, "", good, DIALOGUES["messages"],
        {"prompt": ASKED, "chosen": GOOD, "rejected": BAD},
    ]  # fmt: skip
    read = own_rows.read(put(tmp_path, rows))
    assert read.pairs.numbers == [1, 6]
    reasons = dict(read.rejected)
    assert list(reasons) == [2, 3, 4, 7, 8]
    assert reasons[2] == f"column prompt[0]: must be an object, got {ASKED!r}"
    assert "is not JSON" in reasons[3] and reasons[4].startswith("column chosen: must be")
    assert "one data set has one layout" in reasons[8]


def test_answers_that_nobody_wants_are_not_learned(tmp_path):
    rows = [{"instruction": ASKED, "output": GOOD, "tag": True}, {"instruction": ASKED, "output": BAD, "tag": False}]
    read = own_rows.read(put(tmp_path, rows))
    assert read.dialogues.rows == [[USER, ASSISTANT]] and "nobody wants" in read.rejected[0][1]


def test_a_pair_among_dialogues_is_left_out(tmp_path):
    read = own_rows.read(put(tmp_path, [DIALOGUES["messages"], {"prompt": ASKED, "chosen": GOOD, "rejected": BAD}]))
    assert [number for number, _ in read.rejected] == [2]


@pytest.mark.parametrize(
    ("row", "problem"),
    [({"instruction": "a", "completions": []}, "zephyr-lab binarise"), ({"a": 1}, "no row is a dialogue")],
)
def test_a_file_without_usable_rows_names_the_next_step(tmp_path, row, problem):
    with pytest.raises(ValueError, match=problem):
        own_rows.read(put(tmp_path, [row]))


def test_a_name_that_is_no_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        own_rows.read(tmp_path / "absent.jsonl")


def test_an_id_of_the_hub_is_asked_of_the_hub(monkeypatch):
    asked = []

    class Hub:
        def __init__(self, name):
            self.name = name

        def rows(self, split):
            asked.append((self.name, split))
            return iter([own_rows.Row(1, PAIRS["ShareGPT"])])

    monkeypatch.setattr(own_rows, "Hub", Hub)
    assert len(own_rows.read("me/mine").pairs.rows) == len(own_rows.read("me/mine:train_prefs").pairs.rows) == 1
    assert asked == [("me/mine", "train"), ("me/mine", "train_prefs")]


def pair(asked, chosen, rejected):
    return {"prompt": asked, "chosen": chosen, "rejected": rejected}


def counted(frame):
    return dict(zip(frame["check"], frame["rows"], strict=True))


def test_the_checks_count_what_was_planted(tmp_path, monkeypatch):
    monkeypatch.setattr(own_rows.released, "path", lambda name: None)
    leaked = benchmark.mt_bench()[0].prompts[0]
    longer = " ".join(f"w{number}" for number in range(60))
    rows = [
        pair(ASKED, GOOD, BAD), pair(ASKED, GOOD, BAD), pair(ASKED, "Here.", BAD), pair("Why?", "x", "x"),
        pair("Who?", "", BAD), pair(leaked, GOOD, BAD), pair("Wo ist der Hammer und was ist das?", GOOD, BAD),
        pair("a", longer, BAD), pair("a", longer + " seventeen", BAD),
    ]  # fmt: skip
    tokenizer = example_model()[1]
    checks = own_rows.checks(own_rows.read(put(tmp_path, rows)), tokenizer, max_length=60)
    found = counted(checks)
    assert found["exact duplicates"] == 1 and found["near duplicates"] == 1 and found["prompts asked before"] == 3
    assert found["equal answers"] == 1 and found["empty answers"] == 1 and found["leaked benchmark questions"] == 1
    assert found["prompts in German"] == 1
    whole = [len(tokenizer(row["prompt"] + max(row["chosen"], row["rejected"], key=len))["input_ids"]) for row in rows]
    assert found["over max_length (60 tokens)"] == sum(length + 1 > 60 for length in whole)
    says = dict(zip(checks["check"], checks["says"], strict=True))
    assert says["exact duplicates"] == "rows 2" and "embedded world" in says["leaked benchmark questions"]


def test_mt_bench_is_compared_with_where_it_is_here(tmp_path, released):
    questions = [json.loads(line) for line in released("fastchat/question.jsonl").read_text().splitlines()]
    rows = [{"data": [one["turns"][0], "Yes."]} for one in questions[:5]] + [{"data": [ASKED, GOOD]}]
    checks = own_rows.checks(own_rows.read(put(tmp_path, rows)))
    assert counted(checks)["leaked benchmark questions"] == 5


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "English"), ("Schreibe mir ein Gedicht, das von der See ist", "German"),
        ("Quelle est la capitale de la France ?", "French"), ("¿Cuál es la capital de Francia?", "Spanish"),
        ("フランスの首都はどこですか", "Japanese"), ("法国的首都是哪里", "Chinese"),
        ("Столица Франции", "Cyrillic script"),
        ("2 + 2?", UNCLEAR), ("", UNCLEAR), ("Paracetamol", UNCLEAR),
    ],
)  # fmt: skip
def test_languages_are_guessed_where_they_show(text, language):
    assert guess(text) == language


def test_a_template_of_the_tokenizer_s_own_is_looked_through_once_for_all_rows(tmp_path, monkeypatch):
    made = []
    looked_through = OwnTemplate.__init__
    monkeypatch.setattr(OwnTemplate, "__init__", lambda self, one: (made.append(one), looked_through(self, one))[1])
    tokenizer = chatting("smollm2", "gpt2")
    answers = [{"role": "assistant", "content": "a" * length} for length in range(1, 9)]
    rows = [{"messages": [USER, answer]} for answer in answers]
    checks = own_rows.checks(own_rows.read(put(tmp_path, rows)), tokenizer)
    each = [len(tokenizer.apply_chat_template(row["messages"], return_dict=False)) for row in rows]
    assert len(made) == 1
    assert own_rows.longest(checks) == max(each)
