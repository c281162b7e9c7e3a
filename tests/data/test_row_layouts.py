"""Every row layout, each of its fields null, missing or of a wrong type: the row is read or named, nothing else."""

import json

import pytest

from data_rows import completion, message
from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.core.rows import BadRow, Row
from zephyr_lab.data import file_steps, filters, schemas, splits
from zephyr_lab.data.pairs import Binarisation
from zephyr_lab.data.schemas import Dialogue, Message, ScoredPrompt
from zephyr_lab.data.sources import Folder, usable

HI, GOOD, BAD = "Hi?", "Good day.", "no"
TALK = [message("user", HI), message("assistant", GOOD)]
MESSAGES = (Message("user", HI), Message("assistant", GOOD))
RATED = {aspect: {"Rating": "3", "Rationale": "so"} for aspect in schemas.ASPECTS}

DIALOGUES = {
    "ultrachat": {"id": "a", "data": [HI, GOOD]},
    "messages": {"messages": TALK},
    "sharegpt": {"id": "a", "conversations": [{"from": "human", "value": HI}, {"from": "gpt", "value": GOOD}]},
    "alpaca": {"instruction": HI, "input": "", "output": GOOD},
}
PAIRS = {
    "h4": {
        "prompt": HI,
        "chosen": TALK,
        "rejected": [TALK[0], message("assistant", BAD)],
        "score_chosen": 8.0,
        "score_rejected": 3.0,
    },
    "trl texts": {"prompt": HI, "chosen": GOOD, "rejected": BAD},
    "trl messages": {
        "prompt": [TALK[0]],
        "chosen": [message("assistant", GOOD)],
        "rejected": [message("assistant", BAD)],
    },
    "trl messages, prompt within": {"chosen": TALK, "rejected": [TALK[0], message("assistant", BAD)]},
}
SCORED = {
    "ultrafeedback": {
        "instruction": HI,
        "completions": [
            completion(8, response=GOOD) | {"annotations": RATED},
            completion(3, response=BAD, model="n"),
        ],
    },
    **PAIRS,
}
# Fields that a row may do without, and what they may be besides what they usually are.
OPTIONAL = {
    "ultrachat": {"id"},
    "sharegpt": {"id"},
    "alpaca": {"input"},
    "h4": {"prompt", "score_chosen", "score_rejected"},
    "ultrafeedback": {
        "model", "overall_score", "annotations", "Rating", "Rationale", *schemas.ASPECTS,
    },
}  # fmt: skip
ANY_TYPE = {"id", "Rationale"}  # never looked at
WRONG = {str: [3.5], list: 7, dict: ["text"], float: [1], int: [1]}


def paths(value, before=()):
    """The place of every field of a row, from outside in."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*before, key)
        yield from paths(inner, (*before, key))


def spoilt(row, path, fault):
    """A copy of the row with the field at `path` null, missing, or of another type."""
    row = json.loads(json.dumps(row))
    *outer, last = path
    holder = row
    for key in outer:
        holder = holder[key]
    if fault == "missing":
        del holder[last]
    else:
        holder[last] = None if fault == "null" else WRONG[type(holder[last])]
    return row


def named(path):
    """chosen[1].content"""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def cases(kinds):
    return [
        pytest.param(name, path, fault, id=f"{name}: {named(path)} {fault}")
        for name, row in kinds.items()
        for path in paths(row)
        for fault in ("null", "missing", "wrong type")
    ]


def read_three(read, good, spoilt_row):
    """(first, second, third): the spoilt row between two good ones."""
    rows = [Row(1, good), Row(2, spoilt_row), Row(3, good)]
    return list(schemas.checked(rows, read))


def is_optional(name, path, fault):
    keys = [key for key in path if not isinstance(key, int)]
    if keys[-1] not in OPTIONAL.get(name, ()):
        return False
    return fault != "wrong type" or keys[-1] in ANY_TYPE


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_dialogue_of_every_layout_is_read(name):
    read = schemas.dialogue(Row(1, DIALOGUES[name]))
    assert read.messages == MESSAGES
    assert schemas.dialogue_row(read) == DIALOGUES[name]
    repaired = schemas.dialogue_row(read, {1: "Better."})
    assert schemas.dialogue(Row(1, repaired)).messages == (MESSAGES[0], Message("assistant", "Better."))
    assert read.row.data == DIALOGUES[name]


@pytest.mark.parametrize("name, path, fault", cases(DIALOGUES))
def test_a_spoilt_dialogue_is_read_or_named(name, path, fault):
    first, second, third = read_three(schemas.dialogue, DIALOGUES[name], spoilt(DIALOGUES[name], path, fault))
    assert first.messages == third.messages == MESSAGES
    if isinstance(second, BadRow):
        assert not is_optional(name, path, fault)
        assert_named(second, path)
        return
    assert_dialogue_as_written(second, name, path, fault)


def assert_dialogue_as_written(read, name, path, fault):
    """A missing turn leaves the others, and nothing else may be read from a spoilt field."""
    assert isinstance(read, Dialogue)
    if path == ("data", 0):  # UltraChat tells speakers by their places alone
        assert fault == "missing" and read.messages == (Message("user", GOOD),)
        return
    if is_optional(name, path, fault):
        assert read.messages == MESSAGES
    else:
        assert fault == "missing" and path[-1] == 1
        assert read.messages == MESSAGES[:1]


@pytest.mark.parametrize("name", SCORED)
def test_a_pair_of_every_layout_is_read(name):
    read = schemas.scored_prompt(Row(1, SCORED[name]))
    assert (read.prompt, read.messages) == (HI, MESSAGES[:1])
    assert [one.response for one in read.completions] == [GOOD, BAD]


@pytest.mark.parametrize("name, path, fault", cases(SCORED))
def test_a_spoilt_pair_is_read_or_named(name, path, fault):
    first, second, third = read_three(schemas.scored_prompt, SCORED[name], spoilt(SCORED[name], path, fault))
    assert isinstance(first, ScoredPrompt) and isinstance(third, ScoredPrompt)
    if isinstance(second, BadRow):
        assert not is_optional(name, path, fault)
        assert_named(second, path)
        return
    responses = [one.response for one in second.completions]
    assert second.messages == MESSAGES[:1]
    if is_optional(name, path, fault):
        assert responses == [GOOD, BAD]
    else:  # of several completions one may be missing
        assert name == "ultrafeedback" and fault == "missing" and path[0] == "completions"
        assert responses == [text for place, text in enumerate((GOOD, BAD)) if place != path[-1]]


def assert_named(bad, path):
    """The refusal names the spoilt field, or one that its loss left alone, and says what is wrong in one line."""
    assert bad.row == 2 and bad.column
    assert bad.column.split("[")[0].split(".")[0] in related(path[0])
    assert "\n" not in str(bad) and bad.problem
    assert "'None'" not in bad.problem


def related(column):
    """The columns that a loss in `column` can show in: an answer alone needs its prompt, chosen and rejected agree."""
    alone = {"instruction": {"messages"}, "chosen": {"instruction", "rejected", "prompt"}, "rejected": {"prompt"}}
    whole = {"conversations": {"messages"}, "data": {"messages"}, "output": {"messages"}, "prompt": {"chosen"}}
    return {column} | alone.get(column, set()) | whole.get(column, set())


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_every_layout_are_read_and_bad_ones_set_aside(name, tmp_path):
    rows = [PAIRS[name], {**PAIRS[name], "rejected": None}, PAIRS[name]]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    good, bad = usable(Folder(tmp_path), "train", splits.preference)
    assert [(one.prompt, one.chosen, one.rejected) for one in good] == [([TALK[0]], GOOD, BAD)] * 2
    assert [str(row) for row in bad] == ["train.jsonl row 2, column rejected: must be a text or a list, got None"]


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_stage_s_row_is_read_in_every_layout_as_a_user_s_is(name):
    read = [{"role": one.role, "content": one.content} for one in schemas.dialogue(Row(1, DIALOGUES[name])).messages]
    assert splits.row_messages(DIALOGUES[name]) == read


def test_a_stage_s_pair_is_the_last_message_of_each_side(tmp_path):
    row = {**PAIRS["h4"], "chosen": [message("system", "Be kind."), *TALK], "rejected": PAIRS["h4"]["rejected"]}
    (tmp_path / "train.jsonl").write_text(2 * (json.dumps(row) + "\n"), encoding="utf-8")
    read = splits.pair_rows(tmp_path, "train")
    prompt = [message("system", "Be kind."), TALK[0]]
    assert [(one.prompt, one.chosen, one.rejected) for one in read.rows] == [(prompt, GOOD, BAD)] * 2
    assert (read.numbers, read.bad) == ([1, 2], [])


def test_a_stage_s_file_without_rows_is_an_error(tmp_path):
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(ValueError, match=r"no row in train\.jsonl of "):
        splits.dialogue_rows(tmp_path, "train")


@pytest.mark.parametrize(
    "chosen, rejected",
    [(GOOD, TALK), (GOOD, TALK[1:]), (TALK, BAD), (TALK, TALK[1:]), (TALK[1:], BAD), (TALK[1:], TALK)],
)
def test_the_sides_of_a_pair_must_be_of_one_kind(chosen, rejected):
    (bad,) = schemas.checked([Row(1, {"prompt": HI, "chosen": chosen, "rejected": rejected})], schemas.scored_prompt)
    assert bad.column == "rejected"
    assert "as chosen is" in bad.problem


def test_a_text_and_messages_may_stand_for_the_same_prompt():
    row = {"prompt": HI, "chosen": TALK[1:], "rejected": [message("assistant", BAD)]}
    assert schemas.scored_prompt(Row(1, row)).messages == MESSAGES[:1]
    row = {"prompt": [message("system", "Be kind."), TALK[0]], "chosen": GOOD, "rejected": BAD}
    assert schemas.scored_prompt(Row(1, row)).messages == (Message("system", "Be kind."), MESSAGES[0])


def test_the_sides_of_a_pair_must_share_their_prompt():
    row = {**PAIRS["trl messages"], "chosen": [message("user", "Other?"), message("assistant", GOOD)]}
    (bad,) = schemas.checked([Row(1, row)], schemas.scored_prompt)
    assert (bad.column, bad.problem) == ("chosen", "must be an answer alone or begin with the messages of prompt")
    whole = {**PAIRS["trl messages"], "chosen": TALK, "rejected": PAIRS["h4"]["rejected"]}
    assert schemas.scored_prompt(Row(1, whole)).messages == MESSAGES[:1]


def test_scores_that_belong_to_the_other_side_are_refused():
    row = {**PAIRS["h4"], "score_chosen": 3, "score_rejected": 9}
    (bad,) = schemas.checked([Row(1, row)], schemas.scored_prompt)
    assert bad.column == "score_chosen"
    assert bad.problem == "is 3, below score_rejected 9: the answers are swapped, or the scores"
    assert schemas.scored_prompt(Row(1, {**row, "score_chosen": 9})).completions[0].overall_score == 9  # a tie stays


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """Writes rows as a file of the folder that the tests run in."""
    monkeypatch.chdir(tmp_path)

    def write(rows):
        path = tmp_path / "in.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


def test_a_null_in_one_conversation_costs_that_row_alone(lines, tmp_path):
    good = DIALOGUES["sharegpt"]
    null = {"conversations": [{"from": "human", "value": None}, {"from": "gpt", "value": GOOD}]}
    out = tmp_path / "out.jsonl"
    done = file_steps.filter_dialogues(
        lines([null, good, good]), filters.named_rules(["empty_answer"]), out=out, rejected=tmp_path / "bad.jsonl"
    )
    assert (done.counts.rows, done.counts.kept) == (3, 2)
    (bad,) = done.bad
    assert str(bad) == "row 1, column conversations[0].value: must be a text, got None"
    assert [row.data for row in iter_rows(out)] == [good, good]
    assert "None" not in out.read_text()


def test_a_first_row_without_the_telling_column_decides_no_layout(lines, tmp_path):
    table = [{"instruction": HI}, *({"instruction": HI, "response": GOOD, "overall_score": n} for n in (8, 3))]
    bad, read = (list(schemas.scored_prompts(iter_rows(lines(table)))),)[0]
    assert isinstance(bad, BadRow) and bad.row == 1
    assert [one.overall_score for one in read.completions] == [8.0, 3.0]


def test_pairs_of_three_texts_are_binarised(lines, tmp_path):
    rows = [{**PAIRS["trl texts"], "score_chosen": 8, "score_rejected": 3}, {"prompt": HI, "chosen": GOOD}]
    done = file_steps.binarise_completions(
        lines(rows), Binarisation(chosen="overall_score", rejected="random"), seed=0,
        out=tmp_path / "out.jsonl", rejected=tmp_path / "bad.jsonl",
    )  # fmt: skip
    assert (done.statistics.pairs, [str(bad).partition(":")[0] for bad in done.bad]) == (1, ["row 2, column rejected"])
    (written,) = iter_rows(tmp_path / "out.jsonl")
    assert written.data["chosen"] == [{"content": HI, "role": "user"}, {"content": GOOD, "role": "assistant"}]
