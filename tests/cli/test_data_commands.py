"""`zephyr-lab filter` and `zephyr-lab binarise`: what they print, write, refuse, and say."""

import json
import sys

import pytest

from data_rows import completion
from zephyr_lab.cli import main
from zephyr_lab.data import splits

TALKS = [
    {"id": "0", "data": ["Hi", "Good day."]},
    {"id": "1", "data": ["Hi", "I do not have emotions. But good day."]},
    {"id": "2", "data": ["Hi", "Good day. how are you?", "Well.", "good."]},
    {"id": "3", "data": ["Hi", ""]},
]
SCORED = [
    {"instruction": "A", "completions": [completion(5), completion(9, response="n", model="n")]},
    {
        "instruction": "B",
        "completions": [completion(7), completion(7, response="n", model="n"), completion(1, response="o", model="o")],
    },
]


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    """`run("filter", ...)` gives exit code, stdout and stderr of the command."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["zephyr-lab", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main.main()
        told = capsys.readouterr()
        return left.value.code or 0, told.out, told.err

    return command


def put(folder, rows, name="in.jsonl"):
    path = folder / name
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def test_filter_json_is_exactly_as_promised(run, checkout):
    code, out, err = run(
        "filter", put(checkout, TALKS), "--rules", "narrow_refusal,lower_case_sentence_start", "--json"
    )
    assert code == 0
    assert json.loads(out) == {
        "rows": 4,
        "kept": 2,
        "rules": {
            "narrow_refusal": {"dialogues": 1, "turns": 1},
            "lower_case_sentence_start": {"dialogues": 1, "turns": 1},
        },
    }
    assert err == "zephyr-lab: 1 empty answers in 1 dialogues stay in (rule empty_answer drops them)\n"


def test_filter_without_rules_runs_the_default_ones(run, checkout):
    code, out, _ = run("filter", put(checkout, TALKS), "--json", "--out", "out.jsonl")
    told = json.loads(out)
    assert code == 0
    assert list(told["rules"]) == ["truecase", "disclaimer_preface", "truncated", "exact_duplicate", "near_duplicate"]
    kept = [json.loads(line) for line in (checkout / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in kept] == ["0", "2", "3"]
    assert kept[1]["data"] == ["Hi", "Good day. How are you?", "Well.", "Good."]


def test_binarise_json_is_exactly_as_promised(run, checkout):
    code, out, err = run("binarise", put(checkout, SCORED), "--rejected", "worst", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "prompts": 2,
        "pairs": 2,
        "ties_at_top": 1,
        "all_equal": 0,
        "mean_chosen": 8.0,
        "mean_rejected": 3.0,
        "equal_pairs": 0,
        "chosen_positions": [1, 1, 0],
        "rejected_positions": [1, 0, 1],
        "identical_pairs": 0,
        "identical_dropped": 0,
        "tens_meant_as_one": 0,
        "doubtful_tens": 0,
    }


def test_what_is_wrong_with_scores_is_told_and_can_be_left_as_it_is(run, checkout):
    low, middle = (completion(10, ratings=[rating] * 4, response=rating) for rating in ("1", "3"))
    good, twin = completion(8, response="good", model="n"), completion(8, response="good", model="o")
    rows = [{"instruction": text, "completions": two} for text, two in (
        ("A", [low, good]), ("B", [middle, good]), ("C", [good, twin]))]  # fmt: skip
    path = put(checkout, rows)
    code, out, err = run("binarise", path, "--json")
    told = json.loads(out)
    assert code == 0
    assert [told[name] for name in ("pairs", "tens_meant_as_one", "doubtful_tens", "identical_pairs")] == [3, 1, 1, 1]
    assert "1 overall scores of 10 beside a mean rating of at most 2 are read as 1 (--raw-scores keeps them)" in err
    assert "1 overall scores of 10 beside a mean rating above 2, up to 4, are doubtful and stay" in err
    assert "1 pairs hold one text twice and stay in (--drop-identical drops them)" in err
    code, out, err = run("binarise", path, "--raw-scores", "--drop-identical", "--out", "out.jsonl")
    kept = [json.loads(line) for line in (checkout / "out.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["score_chosen"]) for row in kept] == [("A", 10.0), ("B", 10.0)]
    assert "kept as 10 (--raw-scores)" in err and "1 pairs of one text twice are dropped" in err
    assert "tens meant as one" in out and "2 pairs of 3 prompts" in out


def test_empty_completions_are_told_and_take_part(run, checkout):
    rows = [{"instruction": "A", "completions": [completion(5, response=" "), completion(9)]}]
    code, out, err = run("binarise", put(checkout, rows), "--json")
    assert (code, json.loads(out)["pairs"]) == (0, 1)
    assert err == "zephyr-lab: 1 completions are empty and take part all the same\n"


def test_rows_that_are_pairs_already_are_called_so(run, checkout):
    pair = {"prompt": "Hi", "chosen": "Yes", "rejected": "No"}
    code, _, err = run("binarise", put(checkout, [pair]))
    assert code == 2 and "row 1, column score_chosen: is missing: the row is a pair already" in err
    code, out, _ = run("binarise", put(checkout, [{**pair, "score_chosen": 7, "score_rejected": 3}]), "--json")
    assert code == 0 and json.loads(out)["pairs"] == 1


def test_bad_rows_are_counted_told_and_written_aside(run, checkout):
    code, out, err = run("filter", put(checkout, [*TALKS, "{broken", {"id": "x"}]), "--rules", "truecase", "--json")
    assert code == 0
    assert json.loads(out)["rows"] == 6 and json.loads(out)["kept"] == 4
    assert "row 5: " in err and "row 6, column messages: is missing" in err
    aside = checkout / "build" / "rejected" / "filter" / "in.jsonl"
    assert f"2 rows refused, all of them in {aside}" in err
    assert [json.loads(line)["row"] for line in aside.read_text().splitlines()] == [5, 6]


@pytest.mark.parametrize("command, option", [("filter", "--rejected-rows"), ("binarise", "--rejected-rows")])
def test_bad_rows_go_where_one_says(run, checkout, command, option):
    rows = [*(TALKS if command == "filter" else SCORED), {}]
    code, _, err = run(command, put(checkout, rows), option, "aside.jsonl")
    assert code == 0 and "aside.jsonl" in err
    assert len((checkout / "aside.jsonl").read_text().splitlines()) == 1
    assert not (checkout / "build").exists()


def test_the_seed_is_the_user_s(run, checkout):
    rows = [
        {"instruction": str(i), "completions": [completion(9 - j, model=str(j)) for j in range(4)]} for i in range(30)
    ]
    path = put(checkout, rows)
    told = [run("binarise", path, "--seed", seed, "--json")[1] for seed in (1, 1, 2)]
    assert told[0] == told[1] != told[2]


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["filter", "in.jsonl", "--rules", "narow"], "no rule named 'narow'; allowed: truecase"),
        (["filter", "in.jsonl", "--rules", "contaminated"], "name a file of them (--against FILE)"),
        (["filter", "in.jsonl", "--rules", ""], "no rule named"),
        (["filter", "in.jsonl", "--out", "out.csv"], "cannot write 'out.csv'; allowed: .jsonl, .jsonl.gz or .parquet"),
        (["filter", "in.jsonl", "--out", "in.jsonl"], "are one file"),
        (["filter", "absent.jsonl"], "no file 'absent.jsonl'"),
        (["filter", "scored.jsonl"], "no usable dialogue in 'scored.jsonl'"),
        (["binarise", "in.jsonl"], "no usable prompt with two scored completions in 'in.jsonl'"),
        (["binarise", "scored.jsonl", "--rejected", "best"], "no rule rejected='best'; allowed: random, random_lower"),
        (
            ["binarise", "scored.jsonl", "--chosen", "mean"],
            "no rule chosen='mean'; allowed: overall_score, mean_rating",
        ),
        (["binarise", "scored.jsonl", "--chosen", "mean_rating"], "no usable prompt with two scored completions"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2(run, checkout, arguments, told):
    put(checkout, TALKS)
    put(checkout, SCORED, "scored.jsonl")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert told in err and err.count("\n") == 1


@pytest.mark.parametrize("command", ["filter", "binarise"])
def test_people_get_a_table(run, checkout, command):
    path = put(checkout, TALKS if command == "filter" else SCORED)
    code, out, _ = run(command, path, "--out", "out.jsonl.gz")
    last = {"filter": "3 of 4 rows kept", "binarise": "2 pairs of 2 prompts"}[command]
    assert code == 0
    assert out.endswith(f"{last}, written to out.jsonl.gz\n")
    assert ("truecase" if command == "filter" else "chosen positions") in out


def test_contaminated_dialogues_are_dropped_against_a_file(run, checkout):
    put(checkout, [{"turns": ["Hi", "Well."]}], "questions.jsonl")
    rows = [*TALKS[:1], {"id": "5", "data": ["Who are you?", "I am nobody."]}]
    code, out, _ = run("filter", put(checkout, rows), "--against", "questions.jsonl", "--json")
    assert code == 0
    assert json.loads(out)["kept"] == 1 and json.loads(out)["rules"]["contaminated"] == {"dialogues": 1, "turns": 1}


def test_known_figures_of_released_files(run, released):
    path = released("alvarobartt_fastchat/dialogues.jsonl.gz")
    rules = "narrow_refusal,wide_refusal,lower_case_sentence_start"
    told = json.loads(run("filter", path, "--rules", rules, "--json")[1])
    assert {name: rule["dialogues"] for name, rule in told["rules"].items()} == {
        "narrow_refusal": 2,
        "wide_refusal": 15,
        "lower_case_sentence_start": 18,
    }
    known = json.loads(released("alvarobartt_fastchat/expected_completions.json").read_text(encoding="utf-8"))
    path = released("alvarobartt_fastchat/completions.jsonl.gz")
    told = json.loads(run("binarise", path, "--rejected", "first_release", "--json")[1])
    assert told["prompts"] == told["pairs"] == known["prompts"]
    assert told["chosen_positions"] == known["chosen_position_counts"]
    first = known["h4_first_release_seed_42_in_every_call"]
    assert told["rejected_positions"] == first["rejected_position_counts"]
    assert round(told["mean_rejected"], 6) == first["mean_rejected_score"]
    assert told["equal_pairs"] == first["pairs_with_equal_scores"]


def test_filter_writes_what_training_reads(run, checkout):
    rows = [
        *TALKS[:3],
        {"instruction": "Add.", "input": "2 + 2", "output": "4."},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Good day."}]},
        {"data": ["No answer?"]},
        {"data": [" ", "To what?"]},
    ]
    told = run("filter", put(checkout, rows), "--rules", "truecase", "--messages", "--out", "out.jsonl", "--json")
    assert told[0] == 0 and json.loads(told[1])["kept"] == 5
    assert (
        "row 6, column data: has no assistant's turn" in told[2]
        and "row 7, column data: has an empty prompt" in told[2]
    )
    written = [json.loads(line) for line in (checkout / "out.jsonl").read_text().splitlines()]
    assert all(list(row) == ["messages"] for row in written)
    read = splits.dialogues(written)
    assert not read.bad and read.rows[2][1]["content"] == "Good day. How are you?"
    assert read.rows[3][0] == {"role": "user", "content": "Add.\n\n2 + 2"}


def test_messages_without_out_is_refused(run, checkout):
    code, _, err = run("filter", put(checkout, TALKS), "--messages")
    assert code == 2 and "--messages says how --out FILE is written" in err
