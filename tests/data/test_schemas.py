"""Rows of the published layouts are understood; every other one is named by its column."""

import pytest

from data_rows import completion, message, refusal
from zephyr_lab.core.rows import BadRow, Row
from zephyr_lab.data import schemas
from zephyr_lab.data.schemas import Message

ALTERNATING = [message("user", "Hi"), message("assistant", "Yes?")]


def test_both_layouts_give_the_same_messages():
    from_data = schemas.dialogue(Row(1, {"id": "x", "data": ["Hi", "Yes?"]}))
    from_messages = schemas.dialogue(Row(1, {"messages": ALTERNATING}))
    assert from_data.messages == from_messages.messages == (Message("user", "Hi"), Message("assistant", "Yes?"))
    assert list(from_data.answers()) == [(1, "Yes?")]


def test_a_system_message_may_stand_first():
    read = schemas.dialogue(Row(1, {"messages": [message("system", ""), *ALTERNATING]}))
    assert [m.role for m in read.messages] == ["system", "user", "assistant"]
    assert list(read.answers()) == [(2, "Yes?")]


@pytest.mark.parametrize(
    "data, column, problem",
    [
        ({"id": "x"}, "messages", "is missing, and so is data"),
        ({"data": []}, "data", "must be a list that is not empty, got an empty list"),
        ({"data": None}, "data", "must be a list"),
        ({"data": "Hi"}, "data", "must be a list"),
        ({"data": ["Hi", None]}, "data[1]", "must be a text, got None"),
        ({"messages": []}, "messages", "got an empty list"),
        ({"messages": [message("user", "Hi"), message("user", "You?")]}, "messages[1].role", "user follows user"),
        ({"messages": [*ALTERNATING, message("assistant", "No.")]}, "messages[2].role", "assistant follows assistant"),
        ({"messages": [message("assistant", "Yes?")]}, "messages[0].role", "the assistant speaks before the user"),
        ({"messages": [message("system", "Be kind.")]}, "messages", "holds a system message alone"),
        ({"messages": [*ALTERNATING, message("system", "Stop.")]}, "messages[2].role", "only the first message may be"),
        (
            {"messages": [message("human", "Hi")]},
            "messages[0].role",
            "must be one of system, user, assistant, got 'human'",
        ),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role", "is missing"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "must be a text, got 3"),
        ({"messages": ["Hi"]}, "messages[0]", "must be an object"),
    ],
)
def test_what_is_no_dialogue_is_named_by_its_column(data, column, problem):
    at, told = refusal(schemas.dialogue, data)
    assert at == column
    assert problem in told


def test_an_empty_answer_is_no_fault_of_the_row():
    assert schemas.dialogue(Row(1, {"data": ["Hi", ""]})).messages[1].content == ""


def test_the_mean_rating_skips_what_is_not_applicable():
    row = {"instruction": "Why?", "completions": [completion(7.5, ratings=["4", "N/A", "5", 3])]}
    (read,) = schemas.scored_prompt(Row(1, row)).completions
    assert read.ratings == (4.0, None, 5.0, 3.0)
    assert read.mean_rating == 4.0
    assert read.overall_score == 7.5


@pytest.mark.parametrize("ratings", [None, ["N/A", None, "n/a", "N/A"]])
def test_without_a_rating_there_is_no_mean(ratings):
    row = {"instruction": "Why?", "completions": [completion(1, ratings=ratings)]}
    assert schemas.scored_prompt(Row(1, row)).completions[0].mean_rating is None


@pytest.mark.parametrize(
    "completions, column, problem",
    [
        (None, "completions", "must be a list"),
        ([], "completions", "got an empty list"),
        (["text"], "completions[0]", "must be an object"),
        ([{"model": "m"}], "completions[0].response", "is missing"),
        ([completion(5), completion(response=None)], "completions[1].response", "must be a text, got None"),
        ([completion(5) | {"model": 3}], "completions[0].model", "must be a text"),
        ([completion(11)], "completions[0].overall_score", "must be a number from 0 to 10 or N/A, got 11"),
        ([completion(-1)], "completions[0].overall_score", "must be a number from 0 to 10 or N/A, got -1"),
        ([completion("good")], "completions[0].overall_score", "must be a number from 0 to 10 or N/A, got 'good'"),
        ([completion(True)], "completions[0].overall_score", "must be a number"),
        ([completion(float("inf"))], "completions[0].overall_score", "must be a number"),
        ([completion(5, ratings=["1", "0", "1", "1"])], "completions[0].annotations.honesty.Rating", "from 1 to 5"),
        ([completion(5, ratings=["6", "1", "1", "1"])], "completions[0].annotations.instruction_following.Rating", "6"),
        ([completion(5) | {"annotations": "4"}], "completions[0].annotations", "must be an object or null, got '4'"),
        (
            [completion(5) | {"annotations": {"honesty": 4}}],
            "completions[0].annotations.honesty",
            "object or null, got 4",
        ),
    ],
)
def test_what_is_no_scored_prompt_is_named_by_its_column(completions, column, problem):
    at, told = refusal(schemas.scored_prompt, {"instruction": "Why?", "completions": completions})
    assert at == column
    assert problem in told


@pytest.mark.parametrize(
    "row, column", [({"completions": [completion(5)]}, "instruction"), ({"instruction": "?"}, "completions")]
)
def test_a_missing_column_is_named(row, column):
    assert refusal(schemas.scored_prompt, row)[0] == column


def test_the_history_comes_before_the_instruction():
    row = {"instruction": "And now?", "history": ALTERNATING, "completions": [completion(5)]}
    read = schemas.scored_prompt(Row(1, row))
    assert [m.content for m in read.messages] == ["Hi", "Yes?", "And now?"]
    row["history"] = ALTERNATING[:1]
    assert refusal(schemas.scored_prompt, row)[0] == "history"


def pair(**changes):
    row = {
        "prompt": "Hi",
        "chosen": [message("user", "Hi"), message("assistant", "Good day.")],
        "rejected": [message("user", "Hi"), message("assistant", "no")],
        "score_chosen": 8.5,
        "score_rejected": 3,
    }
    return row | changes


def test_a_pair_is_read_as_two_scored_completions():
    read = schemas.scored_prompt(Row(1, pair()))
    assert [(c.response, c.overall_score) for c in read.completions] == [("Good day.", 8.5), ("no", 3.0)]
    assert read.messages == (Message("user", "Hi"),)


@pytest.mark.parametrize(
    "changes, column, problem",
    [
        ({"rejected": [message("user", "Hey"), message("assistant", "no")]}, "rejected", "another prompt"),
        ({"chosen": [message("user", "Hi")]}, "chosen", "must end with the assistant's answer"),
        ({"rejected": None}, "rejected", "must be a text or a list, got None"),
        ({"score_chosen": 12}, "score_chosen", "must be a number from 0 to 10 or N/A, got 12"),
        ({"prompt": 3}, "prompt", "must be a text"),
    ],
)
def test_what_is_no_pair_is_named_by_its_column(changes, column, problem):
    at, told = refusal(schemas.scored_prompt, pair(**changes))
    assert at == column
    assert problem in told


def test_bad_rows_pass_through_the_check_in_order():
    broken = BadRow(2, None, "is not JSON", "{")
    rows = [Row(1, {"data": ["a", "b"]}), broken, Row(3, {})]
    good, same, refused = schemas.checked(rows, schemas.dialogue)
    assert good.row.number == 1 and same is broken and refused.row == 3


@pytest.mark.parametrize("layout", [{"id": "x", "data": ["hi", "yes"]}, {"k": 1, "messages": [message("user", "hi")]}])
def test_a_dialogue_is_written_as_it_was_read(layout):
    assert schemas.dialogue_row(schemas.dialogue(Row(1, layout))) == layout


def test_a_repaired_text_takes_its_place_and_nothing_else_changes():
    read = schemas.dialogue(Row(1, {"id": "x", "data": ["hi", "yes"], "topic": "t"}))
    assert schemas.dialogue_row(read, {1: "Yes"}) == {"id": "x", "data": ["hi", "Yes"], "topic": "t"}
    assert read.row.data["data"] == ["hi", "yes"]
    kept = {"messages": [{**message("user", "hi"), "turn": 0}, message("assistant", "yes")]}
    written = schemas.dialogue_row(schemas.dialogue(Row(1, kept)), {1: "Yes"})
    assert written["messages"] == [{**message("user", "hi"), "turn": 0}, message("assistant", "Yes")]


def test_the_prompt_id_is_the_published_one(released):
    import json

    known = json.loads(released("ultra/known_rows.json").read_text(encoding="utf-8"))["ultrachat_200k_first_row"]
    assert schemas.prompt_id(known["prompt"]) == known["prompt_id"]


def test_the_prompt_id_is_sha256_of_the_text():
    # SHA-256 of "abc", FIPS 180-2, appendix B.1
    assert schemas.prompt_id("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert schemas.prompt_id("abc", (Message("user", "a"),)) != schemas.prompt_id("abc")


def test_the_published_row_has_the_published_mean_rating(released):
    import json

    known = json.loads(released("ultra/known_rows.json").read_text(encoding="utf-8"))["ultrafeedback_readme_row"]
    read = schemas.scored_prompt(Row(1, known["row"]))
    assert read.completions[0].mean_rating == known["mean_of_the_four_ratings_of_the_first_completion"]
    assert [c.model for c in read.completions] == known["row"]["models"]


def test_the_published_ratings_have_the_published_mean(released):
    import json

    known = json.loads(released("ultra/known_rows.json").read_text(encoding="utf-8"))["ultrafeedback_score_pairs"]
    rated = completion(known["overall_score"], ratings=[known[aspect] for aspect in schemas.ASPECTS])
    read = schemas.scored_prompt(Row(1, {"instruction": "?", "completions": [rated]}))
    assert read.completions[0].mean_rating == known["fine-grained_score"]
