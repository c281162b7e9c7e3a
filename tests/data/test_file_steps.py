"""A step on a file: what is kept is written whole, what is unusable is counted, named and written aside."""

import gzip
import json

import pandas
import pytest

from data_rows import completion, message
from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.data import file_steps, filters
from zephyr_lab.data.pairs import Binarisation

RANDOM = Binarisation(chosen="overall_score", rejected="random")
GOOD = {"id": "g", "data": ["Hi", "Good day."]}
REFUSING = {"id": "r", "data": ["Hi", "I do not have emotions."]}
TEN_MEGABYTES = "x" * 10 * 2**20


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """A root of its own, so that build/rejected/ of this checkout stays as it is."""
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    return tmp_path


def line(row) -> bytes:
    return json.dumps(row).encode() + b"\n"


def filter_rows(content: bytes, folder, rules=("narrow_refusal",), **named):
    path = folder / "in.jsonl"
    path.write_bytes(content)
    return file_steps.filter_dialogues(path, filters.named_rules(rules), **named)


def test_the_bad_input_of_a_dialogue_file_is_named_by_row_and_column(checkout):
    bad = [
        line({"id": "no column"}),
        line({"data": []}),
        line({"messages": [message("user", "Hi"), message("user", "You?")]}),
        '{"id": "latin", "data": ["Hi", "Na\xefve."]}\n'.encode("latin-1"),
        line({"id": "long", "data": ["Hi", TEN_MEGABYTES]}),
        b'{"id": "cut", "data": ["Hi", \n',
        b"[1, 2]\n",
    ]
    done = filter_rows(line(GOOD) + b"".join(bad) + line(REFUSING) + line(GOOD), checkout, out=checkout / "out.jsonl")
    assert (done.counts.rows, done.counts.kept) == (10, 2)
    assert [(row.row, row.column) for row in done.bad] == [
        (2, "messages"), (3, "data"), (4, "messages[1].role"), (5, None), (6, None), (7, None), (8, None),
    ]  # fmt: skip
    assert "UTF-8" in done.bad[3].problem and "longer than" in done.bad[4].problem
    assert [json.loads(kept) for kept in (checkout / "out.jsonl").read_text().splitlines()] == [GOOD, GOOD]
    aside = [json.loads(one) for one in done.rejected.read_text(encoding="utf-8").splitlines()]
    assert done.rejected == checkout / "build" / "rejected" / "filter" / "in.jsonl"
    assert [(one["row"], one["column"]) for one in aside] == [(row.row, row.column) for row in done.bad]
    assert json.loads(aside[0]["raw"]) == {"id": "no column"}


def test_the_bad_input_of_a_scored_file_is_named_by_row_and_column(checkout):
    two = [completion(5), completion(3, response="other")]
    rows = [
        {"instruction": "Why?", "completions": two},
        {"instruction": "Why?", "completions": two[:1]},
        {"instruction": "Why?", "completions": [completion(5, ratings=["7", "1", "1", "1"]), two[1]]},
        {"instruction": "Why?", "completions": [completion("N/A"), completion("N/A")]},
        {"completions": two},
        {"instruction": "Why?", "completions": [*two, completion("N/A")]},
        {"instruction": "Why?", "completions": [completion(5), completion(5, response="other")]},
    ]
    path = checkout / "in.jsonl"
    path.write_bytes(b"".join(map(line, rows)))
    done = file_steps.binarise_completions(path, RANDOM, seed=0)
    assert [(row.row, row.column) for row in done.bad] == [
        (2, "completions"),
        (3, "completions[0].annotations.instruction_following.Rating"),
        (4, "completions[0].overall_score"),
        (5, "instruction"),
    ]
    assert (done.statistics.prompts, done.statistics.pairs, done.statistics.all_equal) == (7, 3, 1)
    lower = Binarisation(chosen="overall_score", rejected="random_lower")
    done = file_steps.binarise_completions(path, lower, seed=0)
    assert (done.statistics.prompts, done.statistics.pairs, len(done.bad)) == (7, 2, 4)


def test_without_a_usable_row_nothing_is_written_but_what_was_refused(checkout):
    out = checkout / "out.jsonl"
    out.write_text("of yesterday\n")
    with pytest.raises(ValueError, match=r"no usable dialogue in 'in\.jsonl': all 2 rows are refused .* row 1"):
        filter_rows(b"{}\nx\n", checkout, out=out)
    assert out.read_text() == "of yesterday\n"
    assert len((checkout / "build/rejected/filter/in.jsonl").read_text().splitlines()) == 2
    (checkout / "in.jsonl").write_bytes(line({"instruction": "Why?", "completions": [completion(5)]}))
    with pytest.raises(ValueError, match="no usable prompt with two scored completions"):
        file_steps.binarise_completions(checkout / "in.jsonl", RANDOM, seed=0, out=out)
    assert out.read_text() == "of yesterday\n"


def test_a_file_that_is_dropped_whole_was_usable_all_the_same(checkout):
    done = filter_rows(line(REFUSING), checkout, out=checkout / "out.jsonl")
    assert (done.counts.rows, done.counts.kept, done.bad, done.rejected) == (1, 0, [], None)
    assert (checkout / "out.jsonl").read_bytes() == b""


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_the_result_is_written_as_its_name_says(checkout, ending):
    out = checkout / f"out{ending}"
    rows = [{"id": "1", "data": ["hi", "yes. it is – “naïve”."], "n": 3}, REFUSING]
    filter_rows(b"".join(map(line, rows)), checkout, ("truecase", "narrow_refusal"), out=out)
    first = out.read_bytes()
    assert [row.data for row in iter_rows(out)] == [{"id": "1", "data": ["hi", "Yes. It is – “naïve”."], "n": 3}]
    filter_rows(b"".join(map(line, rows)), checkout, ("truecase", "narrow_refusal"), out=out)
    assert out.read_bytes() == first
    assert sorted(path.name for path in checkout.iterdir()) == ["in.jsonl", out.name]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".parquet", ".json"])
def test_the_kind_of_input_does_not_matter(checkout, ending):
    path = checkout / f"in{ending}"
    rows = [GOOD, REFUSING, GOOD]
    if ending == ".parquet":
        pandas.DataFrame(rows).to_parquet(path)
    else:
        text = json.dumps(rows).encode() if ending == ".json" else gzip.compress(b"".join(map(line, rows)))
        path.write_bytes(text)
    done = file_steps.filter_dialogues(path, filters.named_rules(["narrow_refusal"]))
    assert (done.counts.rows, done.counts.kept, done.bad) == (3, 2, [])


def test_pairs_of_a_parquet_file_come_back_the_same(checkout):
    rows = [{"instruction": f"Why {i}?", "completions": [completion(i), completion(9, model="n")]} for i in range(5)]
    (checkout / "in.jsonl").write_bytes(b"".join(map(line, rows)))
    outs = [checkout / "out.parquet", checkout / "out.jsonl"]
    for out in outs:
        file_steps.binarise_completions(checkout / "in.jsonl", RANDOM, seed=0, out=out)
    parquet, plain = ([row.data for row in iter_rows(out)] for out in outs)
    assert parquet == plain and len(plain) == 5
    assert plain[0]["score_chosen"] == 9


def test_one_file_cannot_be_read_and_written(checkout):
    for named in ({"out": checkout / "in.jsonl"}, {"rejected": checkout / "in.jsonl"}):
        with pytest.raises(ValueError, match="are one file"):
            filter_rows(line(GOOD), checkout, **named)
    with pytest.raises(ValueError, match="are one file"):
        filter_rows(line(GOOD), checkout, out=checkout / "o.jsonl", rejected=checkout / "o.jsonl")
    assert (checkout / "in.jsonl").read_bytes() == line(GOOD)


@pytest.mark.parametrize("name", ["out.csv", "out", "out.gz", "folder"])
def test_an_unknown_kind_of_output_is_refused_before_any_work(checkout, name):
    (checkout / "folder").mkdir()
    with pytest.raises(ValueError, match=r"cannot write '.*'; allowed: \.jsonl|is a folder"):
        filter_rows(line(GOOD), checkout, out=checkout / name)


def test_rows_that_make_no_table_say_so(checkout):
    mixed = [{"id": 1, "data": ["a", "b"]}, {"id": "x", "data": ["a", "b"]}]
    with pytest.raises(ValueError, match=r"make no parquet table .*use \.jsonl"):
        filter_rows(b"".join(map(line, mixed)), checkout, out=checkout / "out.parquet")
    assert not (checkout / "out.parquet").exists()


def test_a_device_takes_rows_and_stays_a_device(checkout):
    from pathlib import Path

    assert file_steps.write_rows(Path("/dev/null"), [{"a": 1}]) == 1
    assert Path("/dev/null").is_char_device()


def test_an_interrupted_write_leaves_the_old_file(checkout):
    out = checkout / "out.jsonl"
    out.write_text("of yesterday\n")

    def rows():
        yield {"a": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        file_steps.write_rows(out, rows())
    assert out.read_text() == "of yesterday\n"
    assert list(checkout.iterdir()) == [out]


@pytest.mark.parametrize("score, value", [({"gpt4_score": [3, 4, 5]}, 4.0), ({"overall_score": "4"}, 4.0)])
def test_one_completion_a_row_is_put_together_by_prompt(checkout, score, value):
    def told(instruction, model, change=None):
        return {"instruction": instruction, "response": f"by {model}", "response_source": model, **(change or score)}

    rows = [told("A", "m"), told("B", "m"), told("A", "n"), {"response": "x", **score}, told("B", "n"), told("C", "m")]
    (checkout / "in.jsonl").write_bytes(b"broken\n" + b"".join(map(line, rows)))
    done = file_steps.binarise_completions(checkout / "in.jsonl", RANDOM, seed=0, out=checkout / "o.jsonl")
    assert (done.statistics.prompts, done.statistics.pairs, done.statistics.mean_chosen) == (5, 2, value)
    assert [(row.row, row.column) for row in done.bad] == [(1, None), (5, "instruction"), (7, "completions")]
    written = [row.data for row in iter_rows(checkout / "o.jsonl")]
    assert [row["prompt"] for row in written] == ["A", "B"]
    assert written[0]["chosen"][1]["content"] == "by m" and written[0]["rejected"][1]["content"] == "by n"
