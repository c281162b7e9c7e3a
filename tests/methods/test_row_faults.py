"""Rows without an answer to learn from are found before training: named, and set aside where others are left."""

import json
from dataclasses import replace

import pytest
from datasets import Dataset

import zephyr_runs
from kd_runs import DAE
from tiny_models import small_tokenizer
from zephyr_lab.core.files import read_json
from zephyr_lab.data import splits
from zephyr_lab.data.splits import Preference
from zephyr_lab.methods import dae, draft_loss
from zephyr_lab.methods import dpo as ddpo
from zephyr_lab.methods.dae import Flagged
from zephyr_lab.methods.examples import PairExample, dialogue_examples, pair_examples
from zephyr_lab.methods.pair_trainer import require_answers
from zephyr_lab.methods.stages import draft_rows
from zephyr_lab.models import saved
from zephyr_runs import DDPO, DSFT, Stage

LONG = "Why is that so? " * 40  # no answer behind it is within 60 tokens


def dialogue(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def pair(question, chosen, rejected):
    return {"prompt": question, "chosen": dialogue(question, chosen), "rejected": dialogue(question, rejected)}


def write(folder, rows, split="train"):
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


GOOD = {"messages": dialogue("What is 2 plus 3?", "It is 5.")}
CUT = {"messages": dialogue(LONG, "So.")}
EMPTY = {"messages": dialogue("Well?", "")}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return zephyr_runs.save_start(tmp_path_factory.mktemp("start") / "model")


def test_a_fine_tuning_sets_rows_without_an_answer_aside_and_names_them(start, tmp_path, capsys):
    data = write(tmp_path / "data", [GOOD, CUT, EMPTY, *[GOOD] * 4])
    write(data, [GOOD, GOOD], "test")
    stage = Stage(tmp_path, {"base": start, "dialogues": data})
    metrics = stage.build(replace(DSFT, max_length=60, epochs=1))
    assert metrics["rows"] == 7 and metrics["used"] == 6
    findings = read_json(stage.out / "rows.json")["train"]["findings"]
    assert findings["no answer within the limit"] == {"rows": 1, "first": [2], "set_aside": True}
    assert findings["empty answer"] == {"rows": 1, "first": [3], "set_aside": False}
    assert (
        "train: 0 unusable rows; 7 rows, 6 used; no answer within the limit: 1 set aside (rows 2); "
        "empty answer: 1 (rows 3)\n"
    ) in capsys.readouterr().out


def test_dpo_trains_on_what_is_left_of_its_pairs(start, tmp_path):
    good = pair("Why?", "Because.", "No.")
    rows = [good, pair(LONG, "So.", "No."), pair("Why?", "", "No."), *[good] * 4]
    data = write(tmp_path / "data", rows)
    write(data, [good, good], "test")
    stage = Stage(tmp_path, {"policy": start, "pairs": data})
    metrics = stage.build(replace(DDPO, max_length=60, max_prompt_length=50, epochs=1))
    assert metrics["rows"] == 7 and metrics["used"] == 6
    findings = read_json(stage.out / "rows.json")["train"]["findings"]
    assert {name: found["first"] for name, found in findings.items()} == {
        "prompt beyond the limit": [2],
        "empty answer": [3],
    }


@pytest.mark.parametrize("recipe, name", [(DSFT, "dialogues"), (DDPO, "pairs")])
def test_a_training_without_a_usable_row_ends_in_one_line_before_it_starts(start, tmp_path, recipe, name):
    rows = {"dialogues": [CUT, CUT], "pairs": [pair(LONG, "So.", "No.")]}[name]
    data = write(tmp_path / "data", rows)
    write(data, rows, "test")
    stage = Stage(tmp_path, {"base": start, "policy": start, name: data})
    limits = {"max_length": 60} | ({"max_prompt_length": 50} if name == "pairs" else {})
    with pytest.raises(ValueError, match=r"none of \d rows can be trained on at max_length 60: .*set aside") as error:
        stage.build(replace(recipe, **limits))
    assert "\n" not in str(error.value)
    assert not [*stage.checkpoints.iterdir()]


def test_a_prompt_that_fills_the_limit_leaves_no_answer_that_could_be_cut():
    # at a limit of the prompt's own length nothing of an answer is left, beyond it a cut would take from its other end
    tokenizer = small_tokenizer()
    preference = Preference([{"role": "user", "content": "Why is that so?"}], "Because it is.", "No.")
    options = {"long_prompts": "set_aside", "equal_answers": "keep", "system_turn": False, "max_prompt_length": 99}
    (whole,), _ = pair_examples(tokenizer, [preference], max_length=99, **options)
    for limit in (len(whole.prompt_ids), len(whole.prompt_ids) - 2):
        kept, account = pair_examples(
            tokenizer, [Preference([{"role": "user", "content": "a"}], "b", "c"), preference],
            max_length=limit, numbers=[7, 9], **options,
        )  # fmt: skip
        assert len(kept) == account.used == 1
        assert account.findings["no room for an answer behind the prompt"].first == [9]
    (cut,), _ = pair_examples(tokenizer, [preference], max_length=len(whole.prompt_ids) + 1, **options)
    assert (cut.chosen_ids, cut.rejected_ids) == (whole.chosen_ids[:1], whole.rejected_ids[:1])


def test_a_mixture_trains_on_the_kind_that_is_left():
    flagged = [Flagged(CUT["messages"], True, 4), *(Flagged(GOOD["messages"], False, number) for number in (5, 9))]
    rows, account = dae.rows_of(replace(DAE, max_length=60), small_tokenizer(), flagged, seed=0)
    assert list(rows["is_domain"]) == [False, False]
    assert account.findings["no answer within the limit"].first == [4]
    with pytest.raises(ValueError, match=r"none of 1 rows can be trained on at max_length 60: .*\(rows 4\)"):
        dae.rows_of(replace(DAE, max_length=60), small_tokenizer(), flagged[:1], seed=0)


def test_a_draft_reads_the_rows_that_are_left_and_names_the_others(tmp_path, capsys):
    data = write(tmp_path / "data", [CUT, GOOD])
    rows, account = draft_loss.rows_of(
        splits.dialogue_rows(data, "train"), small_tokenizer(), name="train", max_length=60, system_turn=False
    )
    assert account["used"] == 1
    assert len(rows) == 1
    assert "no answer within the limit: 1 set aside (rows 1)" in capsys.readouterr().out


def test_scores_for_a_selection_need_an_answer_in_each_row():
    rows = [([1] * 9, [False] * 4 + [True] * 5), ([1] * 9, [False] * 9)]
    with pytest.raises(ValueError, match=r"1 of 2 rows have no answer token within max_length 9 \(rows 12\)"):
        draft_rows.require_guessable(rows, [3, 12], max_length=9)
    draft_rows.require_guessable(rows[:1], [3], max_length=9)


def ids(*rows):
    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    return Dataset.from_list([dict(zip(columns, row, strict=True)) for row in rows])


WHOLE = ([1, 2], [3, 4], [5])


@pytest.mark.parametrize(
    "row, limit, mode, told",
    [
        (([1, 2], [], [5]), None, "keep_start", "row 2: chosen_ids is empty"),
        (([], [3], [5]), None, "keep_start", "row 2: prompt_ids is empty"),
        (([1, 2, 3, 4], [3], [5]), 4, "keep_start", "row 2: chosen_ids is cut off whole, 4 ids of prompt"),
        (([1], [3, 4, 5, 6], [5]), 4, "keep_end", "row 2: prompt_ids is cut off whole, 4 ids of chosen_ids"),
    ],
)
def test_rows_of_ids_are_named_where_nothing_is_left_of_a_part(row, limit, mode, told):
    with pytest.raises(ValueError, match=told):
        require_answers(ids(WHOLE, row), max_length=limit, truncation_mode=mode)
    require_answers(ids(WHOLE, WHOLE), max_length=limit, truncation_mode=mode)
    require_answers(ids(([1, 2, 3], [3], [5])), max_length=4, truncation_mode=mode)


def test_the_limits_of_rows_of_ids_are_those_of_the_collator():
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    for mode in ("keep_start", "keep_end"):
        for prompt, answer in ((3, 1), (3, 3), (4, 1), (1, 3), (1, 4), (5, 5)):
            row = {"prompt_ids": [1] * prompt, "chosen_ids": [2] * answer, "rejected_ids": [3] * answer}
            batch = DataCollatorForPreference(pad_token_id=0, max_length=4, truncation_mode=mode)([row])
            answers = batch["completion_mask"].sum(dim=1)
            is_whole = bool((answers > 0).all() and (batch["attention_mask"].sum(dim=1) > answers).all())
            if is_whole:
                require_answers(Dataset.from_list([row]), max_length=4, truncation_mode=mode)
            else:
                with pytest.raises(ValueError, match="is cut off whole"):
                    require_answers(Dataset.from_list([row]), max_length=4, truncation_mode=mode)


@pytest.mark.parametrize("shared_prompt", [True, False])
def test_a_trainer_names_such_rows_when_it_is_made(start, tmp_path, shared_prompt):
    whole, bare = PairExample([5, 6], [7], [8]), PairExample([5, 6], [7], [])
    models = (saved.load_model(start), saved.load_model(start), saved.load_tokenizer(start))
    with pytest.raises(ValueError, match="row 2: rejected_ids is empty"):
        ddpo.make_trainer(
            replace(DDPO, shared_prompt=shared_prompt), *models, {"train": [whole, bare], "test": [whole]},
            seed=0, folder=tmp_path,
        )  # fmt: skip


def test_numbers_are_those_of_the_file():
    found = splits.Split([GOOD["messages"], CUT["messages"]], [2, 5], [])
    _, account = dialogue_examples(
        small_tokenizer(), found.rows, max_length=60, answers_only=True, system_turn=False, numbers=found.numbers
    )
    assert account.findings["no answer within the limit"].first == [5]
    assert found.line("2 rows, 1 used") == "0 unusable rows; 2 rows, 1 used"
