import json

import pytest

from zephyr_lab.world import benchmark
from zephyr_lab.world.answers import FILLERS, PREFACES
from zephyr_lab.world.dialogues import dialogues
from zephyr_lab.world.judge import grade
from zephyr_lab.world.task import normalise

MADE = dialogues(0, 4000, domain_share=0.1, duplicates=0.05, contamination=0.04)
LABELLED = list(zip(MADE.rows, MADE.labels, MADE.turns, strict=True))


def test_rows_are_in_ultrachats_schema_and_tell_nothing_of_the_labels():
    for row in MADE.rows:
        assert list(row) == ["id", "data"]
        assert len(row["data"]) == 4 and all(isinstance(text, str) and text for text in row["data"])
    assert len({row["id"] for row in MADE.rows}) == 4000
    assert [row["id"] for row in MADE.rows] == [label.id for label in MADE.labels]
    json.dumps(MADE.rows)


def test_labels_name_what_can_be_seen_in_the_answers():
    for row, label, turns in LABELLED:
        for text, defects, turn in zip(row["data"][1::2], label.defects, turns, strict=True):
            verdict = grade(turn, text)
            lower = text.lower()
            assert verdict.complete == ("truncated" not in defects)
            assert verdict.capital == (not {"lower_start", "all_lower"} & set(defects)) or text[0].isdigit()
            if "truncated" in defects:
                continue  # what was cut off cannot be seen
            assert any(preface.lower() in lower for preface in PREFACES) == ("preface" in defects)
            assert any(filler.lower() in lower for filler in FILLERS) == ("filler" in defects)
            assert verdict.core == 1 or {"wrong", "refused"} & set(defects)
            assert bool(verdict.explanation) == (not {"no_explanation", "wrong_explanation"} & set(defects))


def test_duplicates_are_the_rows_whose_words_came_before():
    first = {}
    for row, label, _ in LABELLED:
        words = tuple(normalise(text) for text in row["data"])
        assert label.duplicate_of == first.get(words)
        first.setdefault(words, row["id"])
    planted = sum(label.duplicate_of is not None for label in MADE.labels)
    by_chance = sum(label.duplicate_of is not None for label in dialogues(0, 4000, domain_share=0.1).labels)
    assert 150 < planted - by_chance < 250  # 5 % of 4000 is 200, standard error 14


def test_contaminated_rows_ask_benchmark_questions_and_no_others_do():
    asked = {tuple(normalise(text) for text in one.prompts) for one in benchmark.mt_bench(320)}
    for row, label, _ in LABELLED:
        assert label.contaminated == (tuple(normalise(text) for text in row["data"][::2]) in asked)
    share = sum(label.contaminated for label in MADE.labels) / len(MADE.labels)
    assert share == pytest.approx(0.04, abs=0.015)


def test_altered_copies_have_their_questions_in_lower_case_and_keep_their_answers():
    earlier, altered = set(), 0
    for row, label, _ in LABELLED:
        answers = tuple(row["data"][1::2])
        if label.altered:
            altered += 1
            assert all(text == text.lower() for text in row["data"][::2])
            assert label.contaminated or answers in earlier
        earlier.add(answers)
    assert altered > 50


def test_without_shares_nothing_is_planted():
    made = dialogues(0, 500)
    assert not any(label.contaminated or label.altered or label.category == "shop" for label in made.labels)


def test_a_longer_draw_begins_with_the_shorter_one():
    assert dialogues(7, 100, duplicates=0.1).rows == dialogues(7, 300, duplicates=0.1).rows[:100]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": -1}, "count must not be negative"),
        ({"count": 1, "domain_share": 1.5}, "domain_share must lie within 0 and 1, got 1.5"),
        ({"count": 1, "duplicates": 0.6, "contamination": 0.6}, "duplicates . contamination must lie within 0 and 1"),
        ({"count": 1, "duplicates": -0.1}, "must lie within 0 and 1"),
    ],
)
def test_impossible_shares_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dialogues(0, **settings)
