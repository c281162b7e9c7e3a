"""The data of KD and DAE: exact counts and shares, quality as asked, mixed from the world, public sets and folders."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import datasets
import pytest

import stub_hub
from tiny_models import small_tokenizer
from zephyr_lab.core.rows import BadRow, Row
from zephyr_lab.data import public_sets, splits
from zephyr_lab.methods.dae import flagged_rows
from zephyr_lab.methods.recipes.kd_data import (
    DomainPairs,
    FolderMix,
    FolderPairs,
    MixedDialogues,
    OwnAnswers,
    PublicMix,
    QualityDialogues,
)
from zephyr_lab.methods.recipes.mixtures import Merge, Upcycle
from zephyr_lab.methods.stages import kd_data, mixtures, own_answers, world_data
from zephyr_lab.models import saved
from zephyr_runs import DIALOGUES, save_start

QUALITY = QualityDialogues(
    world="tiny",
    rows=60,
    held_out=10,
    noise="dialogues",
    duplicates=0.05,
    filters=("truecase", "disclaimer_preface", "truncated"),
    least_score=8.0,
    judge_sd=0.0,
)
MIXED = MixedDialogues(world="tiny", rows=40, held_out=10, domain_share=0.1, noise="dialogues", domain_noise="teacher")
PAIRS = DomainPairs(
    world="tiny",
    prompts=30,
    held_out=8,
    domain_share=1.0,
    writers=("strong", "medium", "weak", "poor"),
    rating_sd=1.0,
    aspect_sd=0.5,
    chosen="mean_rating",
    rejected="random",
)


class Context:
    checkpoints = None

    def progress(self, *steps, **numbers):
        pass


def build(function, recipe, folder, *, seed=0, inputs=None):
    folder.mkdir()
    return function(recipe, seed=seed, inputs=inputs or {}, out=folder, context=Context())


def rows(folder, split="train"):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_quality_assured_rows_are_as_many_as_asked_and_better(tmp_path):
    metrics = build(kd_data.build_quality, QUALITY, tmp_path / "a")
    assert len(rows(tmp_path / "a")) == 60 and len(rows(tmp_path / "a", "test")) == 10
    assert metrics["mean_kept"] >= 8 > metrics["mean_drawn"]
    assert metrics["drawn"] > metrics["filtered"] > metrics["kept"] == 60
    dialogues = splits.dialogue_rows(tmp_path / "a", "train").rows
    assert len(dialogues) == 60


def test_a_judge_that_errs_lets_worse_rows_pass(tmp_path):
    exact = build(kd_data.build_quality, QUALITY, tmp_path / "a")
    erring = build(kd_data.build_quality, replace(QUALITY, judge_sd=3.0), tmp_path / "b")
    assert erring["mean_kept"] < exact["mean_kept"]


def test_a_threshold_that_nothing_passes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kd_data, "MOST_DRAWS", 2)
    with pytest.raises(
        ValueError, match=r"^only \d+ of 120 dialogues pass .* 60 are asked for: lower least_score or rows"
    ):
        build(kd_data.build_quality, replace(QUALITY, least_score=10.0, noise="poor"), tmp_path / "a")
    with pytest.raises(ValueError, match=r"^least_score must be from 1 to 10, got 11"):
        replace(QUALITY, least_score=11.0)


@pytest.mark.parametrize(("share", "domain"), [(0.0, 0), (0.02, 1), (0.1, 4), (1.0, 40)])
def test_the_share_of_domain_rows_is_exact_and_flagged(tmp_path, share, domain):
    metrics = build(kd_data.build_mixed, replace(MIXED, domain_share=share), tmp_path / "a")
    flagged = flagged_rows(tmp_path / "a", "train").rows
    assert metrics["domain_rows"] == sum(row.is_domain for row in flagged) == domain
    assert all(row.messages[0]["content"].startswith("Card:") is row.is_domain for row in flagged)


def test_kinds_are_mixed_and_a_seed_draws_the_same_rows_again(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build(kd_data.build_mixed, replace(MIXED, domain_share=0.5), tmp_path / name, seed=seed)
    flags = [row["is_domain"] for row in rows(tmp_path / "a")]
    assert sorted(flags[:20]) != [False] * 20 and sorted(flags[:20]) != [True] * 20
    texts = [(tmp_path / name / "train.jsonl").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_domain_pairs_ask_about_the_shop_on_prompts_of_their_own(tmp_path):
    metrics = build(kd_data.build_pairs, PAIRS, tmp_path / "a")
    train = splits.pair_rows(tmp_path / "a", "train").rows
    test = splits.pair_rows(tmp_path / "a", "test").rows
    assert all(pair.prompt[0]["content"].startswith("Card:") for pair in train + test)
    assert len(test) == 8 == metrics["held_out"] and metrics["pairs"] == len(train)
    seen = [{json.dumps(pair.prompt) for pair in pairs} for pairs in (train, test)]
    assert not seen[0] & seen[1]


def test_a_teacher_answers_every_question_after_its_own_answers(tmp_path):
    data = tmp_path / "data"
    build(world_data.build_dialogues, replace(DIALOGUES, rows=4, held_out=2), data)
    save_start(tmp_path / "teacher")
    recipe = OwnAnswers(teacher="", temperature=0.0, max_new_tokens=5, device="cpu")
    metrics = build(
        own_answers.build, recipe, tmp_path / "a", inputs={"teacher": tmp_path / "teacher", "dialogues": data}
    )
    assert metrics["rows"] == 4
    asked = splits.dialogue_rows(data, "train").rows
    for before, after in zip(asked, rows(tmp_path / "a"), strict=True):
        messages = after["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant"] * 2
        assert [message["content"] for message in messages[0::2]] == [message["content"] for message in before[0::2]]
    model, tokenizer = saved.load_model(tmp_path / "teacher"), small_tokenizer()
    first = rows(tmp_path / "a")[0]["messages"]
    ids = tokenizer.apply_chat_template(first[:3], add_generation_prompt=True, return_tensors="pt")["input_ids"]
    greedy = model.generate(ids, max_new_tokens=5, do_sample=False, eos_token_id=tokenizer.eos_token_id)
    said = tokenizer.decode(greedy[0, ids.shape[1] :].tolist())
    assert said.removesuffix("</s>") == first[3]["content"]


def test_mixtures_are_stages(tmp_path):
    for seed, name in ((0, "one"), (1, "two")):
        save_start(tmp_path / name, seed=seed)
    recipe = Upcycle(start="", experts=4, top=2, noise=0.1, router_sd=0.02, dtype="float32")
    metrics = build(mixtures.build_upcycle, recipe, tmp_path / "up", inputs={"dense": tmp_path / "one"})
    assert metrics["parameters"] > metrics["dense_parameters"]
    assert saved.load_model(tmp_path / "up").config.num_local_experts == 4
    merge = Merge(first="", second="", shared="first", router="hidden", router_sd=0.0, prompts=3, dtype="float32")
    inputs = {"first": tmp_path / "one", "second": tmp_path / "two"}
    build(world_data.build_dialogues, replace(DIALOGUES, rows=4, held_out=2), tmp_path / "data")
    inputs |= dict.fromkeys(("first_prompts", "second_prompts"), tmp_path / "data")
    build(mixtures.build_merge, merge, tmp_path / "b", inputs=inputs)
    assert saved.load_model(tmp_path / "b").config.num_experts_per_tok == 2


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
    monkeypatch.setattr(kd_data, "Hub", StubHub)
    metrics = kd_data.build_public(MIX, seed=0, inputs={}, out=tmp_path, context=None)
    assert metrics["rows"] == 20 and metrics["unusable"] == 6
    assert sum(metrics[f"rows_{name}"] for name in ROWS) == 20
    train = splits.dialogue_rows(tmp_path, "train").rows
    test = splits.dialogue_rows(tmp_path, "test").rows
    assert (len(train), len(test)) == (20, 4)


def test_unknown_sets_and_too_few_rows_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kd_data, "Hub", StubHub)
    with pytest.raises(ValueError, match=r"^no public set named 'alpaca'; known: code_alpaca, gsm8k"):
        kd_data.build_public(
            PublicMix(sets=("alpaca",), rows=(1,), held_out=1), seed=0, inputs={}, out=tmp_path, context=None
        )
    with pytest.raises(ValueError, match=r"^the sets gave 24 rows, none beyond the 24 held out$"):
        kd_data.build_public(replace(MIX, held_out=24), seed=0, inputs={}, out=tmp_path, context=None)
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
        from zephyr_lab.methods.stages import kd_data
        from zephyr_lab.methods.recipes.kd_data import PublicMix
        recipe = PublicMix(sets=("slim_orca",), rows=(5,), held_out=2)
        print(json.dumps(kd_data.build_public(recipe, seed=0, inputs={}, out=Path(sys.argv[1]), context=None)))
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
    metrics = kd_data.build_folder_mix(DOMAIN, seed=0, inputs=data, out=out, context=None)
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
    metrics = kd_data.build_folder_pairs(recipe, seed=0, inputs={}, out=tmp_path / "out", context=None)
    train = splits.pair_rows(tmp_path / "out", "train").rows
    test = splits.pair_rows(tmp_path / "out", "test").rows
    assert metrics["held_out"] == len(test) == 2 and metrics["pairs"] == len(train) >= 5
    assert not {pair.prompt[0]["content"] for pair in train} & {pair.prompt[0]["content"] for pair in test}


def test_a_missing_folder_and_too_few_rows_say_the_next_step(data, tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r"^9 domain rows of extraction, qna in e_commerce are asked for, but there are 8"
    ):
        kd_data.build_folder_mix(replace(DOMAIN, domain_share=0.9), seed=0, inputs=data, out=tmp_path, context=None)
    monkeypatch.delenv("ZEPHYR_LAB_DATA")
    with pytest.raises(FileNotFoundError, match=r"^no folder 'e_commerce' of domain data; set ZEPHYR_LAB_DATA"):
        kd_data.build_folder_mix(DOMAIN, seed=0, inputs=data, out=tmp_path, context=None)
