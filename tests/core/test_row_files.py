"""Rows out of broken files: what is whole stays, what is not is counted and named."""

import gzip
import json
import os
import random
import time

import pytest

from zephyr_lab.core.row_files import LONGEST_ROW, default_rejected_path, iter_rows, read_rows, write_rejected

GOOD = [{"id": 1, "text": "one"}, {"id": 2, "text": "zwei – ümlaut"}, {"id": 3, "text": "three"}]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*rows):
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows) + b"\n"


def ids(rows):
    return [row.data["id"] for row in rows.good]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.json.gz", "a.parquet"])
def test_each_kind_of_file_gives_the_same_rows(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".parquet"):
        pandas = pytest.importorskip("pandas")
        pandas.DataFrame(GOOD).to_parquet(path)
    else:
        content = lines(*GOOD) if "jsonl" in name else json.dumps(GOOD).encode()
        write(path, gzip.compress(content) if name.endswith(".gz") else content)
    rows = read_rows(path)
    assert [row.data for row in rows.good] == GOOD
    assert [row.number for row in rows.good] == [1, 2, 3]
    assert rows.bad == []


BROKEN_ROWS = {
    "broken": (b'{"id": 9, "text', None, "is not JSON: Unterminated string starting at character 11"),
    "no object": (b"[1, 2]", None, "is not a JSON object, but a list"),
    "a number": (b"12", None, "is not a JSON object, but a number"),
    "not UTF-8": (b'{"id": 9, "text": "\xff\xfe"}', None, "is not UTF-8"),
    "latin-1": ('{"id": 9, "text": "naïve"}'.encode("latin-1"), None, "is not UTF-8"),
    "NaN": (b'{"id": 9, "text": "x", "score": NaN}', "score", "NaN is not JSON (write null)"),
    "Infinity": (b'{"id": 9, "score":-Infinity}', "score", "-Infinity is not JSON"),
    "huge whole number": (b'{"id": 9, "score": 1' + b"0" * 5000 + b"}", "score", "beyond 64 bits"),
    "65 bits": (b'{"id": 18446744073709551616}', "id", "beyond 64 bits"),
    "huge real number": (b'{"id": 9, "score": 1e999}', "score", "beyond 64 bits"),
    "duplicate key": (b'{"id": 9, "text": "a", "text": "b"}', "text", "duplicate key 'text'"),
    "deep": (b'{"id": 9, "text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "nested too deeply"),
    "deep, and just parsed": (b'{"id": 9, "text": ' + b"[" * 300 + b"]" * 300 + b"}", None, "nested too deeply"),
    "NUL bytes": (b"\0" * 50, None, "is not JSON"),
    "raw NUL in a text": (b'{"id": 9, "text": "a\0b"}', None, "is not JSON"),
    "half a surrogate pair": (b'{"id": 9, "text": "\\ud83d"}', None, "half a surrogate pair"),
    "two objects": (b'{"id": 9} {"id": 10}', None, "is not JSON: Extra data at character 11"),
    "too long": (b'{"id": 9, "text": "' + b"x" * 10_000_000 + b'"}', None, "longer than"),
}


@pytest.mark.parametrize("case", BROKEN_ROWS)
def test_a_broken_line_is_one_bad_row_and_its_neighbours_stay(tmp_path, case):
    broken, column, problem = BROKEN_ROWS[case]
    rows = read_rows(write(tmp_path / "a.jsonl", lines(GOOD[0], broken, *GOOD[1:])))
    assert ids(rows) == [1, 2, 3]
    assert [row.number for row in rows.good] == [1, 3, 4]
    (bad,) = rows.bad
    assert (bad.row, bad.column) == (2, column)
    assert problem in bad.problem


LIST_ONLY = {"two objects", "NUL bytes", "raw NUL in a text"}


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("case", [case for case in BROKEN_ROWS if case not in LIST_ONLY])
def test_a_broken_element_of_a_list_is_one_bad_row_and_its_neighbours_stay(tmp_path, case, indent, place):
    broken, column, problem = BROKEN_ROWS[case]
    elements = [json.dumps(row, indent=indent).encode() for row in GOOD]
    elements.insert(place, broken)
    separator = b", " if indent is None else b",\n    "
    rows = read_rows(write(tmp_path / "a.json", b"[" + separator.join(elements) + b"]\n"))
    assert ids(rows) == [1, 2, 3]
    (bad,) = rows.bad
    assert (bad.row, bad.column) == (place + 1, column)
    assert problem in bad.problem


def test_fragments_of_a_broken_element_are_not_taken_for_rows(tmp_path):
    def row(number):
        return json.dumps({"id": number, "text": "a longer text", "turns": [{"role": "user"}, {"role": "assistant"}]})

    for broken in range(4):
        elements = [row(number) for number in range(4)]
        elements[broken] = elements[broken].replace('"text": ', '"text" ')
        rows = read_rows(write(tmp_path / "a.json", "[" + ", ".join(elements) + "]"))
        assert ids(rows) == [number for number in range(4) if number != broken]
        assert [bad.row for bad in rows.bad] == [broken + 1]


def test_two_broken_elements_in_a_row_are_counted_as_two(tmp_path):
    elements = [json.dumps(row) for row in GOOD]
    broken = '{"id" 7, "text": "x"}'
    text = (
        "[" + ", ".join([elements[0], broken.replace(" 7", ": 7,,"), broken.replace(" 7", ": ,7"), *elements[1:]]) + "]"
    )
    rows = read_rows(write(tmp_path / "a.json", text))
    assert ids(rows) == [1, 2, 3]
    assert [bad.row for bad in rows.bad] == [2, 3]


@pytest.mark.parametrize(("lost", "left"), [("}, {", "} {"), ("[", ""), ("]", "")])
def test_a_list_that_lost_a_bracket_or_a_comma_keeps_its_rows(tmp_path, lost, left):
    assert ids(read_rows(write(tmp_path / "a.json", json.dumps(GOOD).replace(lost, left)))) == [1, 2, 3]


def test_a_list_cut_short_keeps_the_rows_before_the_cut(tmp_path):
    text = json.dumps(GOOD)
    rows = read_rows(write(tmp_path / "a.json", text[: text.index("three")]))
    assert ids(rows) == [1, 2]
    assert [bad.row for bad in rows.bad] == [3]


def test_a_list_with_the_text_of_an_object_inside_a_string_is_left_alone(tmp_path):
    tricky = [{"id": 1, "text": 'see [{"id": 7}, {"id": 8}] and {'}, {"id": 2, "text": "}]"}]
    rows = read_rows(write(tmp_path / "a.json", json.dumps(tricky)))
    assert [row.data for row in rows.good] == tricky
    assert rows.bad == []


def test_json_lines_under_the_name_of_a_list_are_read(tmp_path):
    assert ids(read_rows(write(tmp_path / "a.json", lines(*GOOD)))) == [1, 2, 3]


def test_byte_order_marks_windows_line_ends_and_blank_lines_are_no_fault(tmp_path):
    mark = b"\xef\xbb\xbf"
    content = mark + lines(GOOD[0]).replace(b"\n", b"\r\n") + b"\r\n  \n" + mark + lines(*GOOD[1:]).rstrip()
    rows = read_rows(write(tmp_path / "a.jsonl", content))
    assert ids(rows) == [1, 2, 3]
    assert [row.number for row in rows.good] == [1, 4, 5]
    assert rows.bad == []


def test_byte_order_marks_between_the_elements_of_a_list_are_no_fault(tmp_path):
    elements = ["\ufeff" + json.dumps(row) for row in GOOD]
    rows = read_rows(write(tmp_path / "a.json", "[" + ", ".join(elements) + ", \ufeff]"))
    assert ids(rows) == [1, 2, 3]
    assert rows.bad == []


def test_a_mark_of_the_other_unicode_is_said_plainly(tmp_path):
    with pytest.raises(ValueError, match="UTF-16 text; save it as UTF-8"):
        read_rows(write(tmp_path / "a.jsonl", lines(*GOOD).decode().encode("utf-16")))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_gzip_data_cut_short_keep_every_row_before_the_cut(tmp_path, share):
    many = [{"id": number, "text": os.urandom(20).hex()} for number in range(2000)]
    packed = gzip.compress(lines(*many))
    rows = read_rows(write(tmp_path / "a.jsonl.gz", packed[: int(share * len(packed))]))
    assert ids(rows) == list(range(len(rows.good)))
    assert share * 2000 * 0.9 < len(rows.good) < 2000
    (bad,) = rows.bad
    assert bad.row == len(rows.good) + 1
    assert "breaks off" in bad.problem


def test_damaged_gzip_data_keep_the_rows_before_the_damage(tmp_path):
    rng = random.Random(0)
    many = [{"id": number, "text": rng.randbytes(20).hex()} for number in range(2000)]
    packed = bytearray(gzip.compress(lines(*many), compresslevel=1, mtime=0))
    middle = len(packed) // 2
    packed[middle : middle + 40] = b"\xff" * 40
    rows = read_rows(write(tmp_path / "a.jsonl.gz", bytes(packed)))
    assert [row.data.get("id") for row in rows.good][:900] == list(range(900))
    assert "damaged gzip data" in rows.bad[-1].problem


def test_a_wrong_checksum_is_reported_and_costs_no_row(tmp_path):
    packed = bytearray(gzip.compress(lines(*GOOD).rstrip()))
    packed[-8] ^= 1
    rows = read_rows(write(tmp_path / "a.jsonl.gz", bytes(packed)))
    assert ids(rows) == [1, 2, 3]
    assert "incorrect data check" in rows.bad[0].problem


def test_several_gzip_members_and_padding_are_one_file(tmp_path):
    content = gzip.compress(lines(GOOD[0])) + gzip.compress(lines(*GOOD[1:])) + b"\0" * 100
    rows = read_rows(write(tmp_path / "a.jsonl.gz", content))
    assert ids(rows) == [1, 2, 3]
    assert rows.bad == []


def test_a_gzip_name_on_plain_text_and_the_reverse_are_read_by_content(tmp_path):
    assert ids(read_rows(write(tmp_path / "a.jsonl.gz", lines(*GOOD)))) == [1, 2, 3]
    assert ids(read_rows(write(tmp_path / "a.jsonl", gzip.compress(lines(*GOOD))))) == [1, 2, 3]


def test_an_empty_number_of_pandas_is_none(tmp_path):
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"id": [1, 2], "score": [0.5, float("nan")]}).to_parquet(tmp_path / "a.parquet")
    assert [row.data["score"] for row in read_rows(tmp_path / "a.parquet").good] == [0.5, None]


def test_a_text_in_parquet_that_is_no_utf_8_costs_one_row(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    buffers = pyarrow.array([b"a", b"\xff", b"c"]).buffers()
    texts = pyarrow.Array.from_buffers(pyarrow.string(), 3, buffers)
    parquet.write_table(pyarrow.table({"id": [1, 2, 3], "text": texts}), tmp_path / "a.parquet")
    rows = read_rows(tmp_path / "a.parquet")
    assert ids(rows) == [1, 3]
    assert [bad.row for bad in rows.bad] == [2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "'a.jsonl' is empty"),
        ("a.jsonl", b"\n\n  \n", "'a.jsonl' holds no rows"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "holds no rows"),
        ("a.json", b"[]", "holds no rows"),
        ("a.parquet", b"PAR1 this is none PAR1", "is not a readable parquet file"),
        ("a.xlsx", b"id\n1\n", "'a.xlsx' is not a known kind of file; allowed: .jsonl"),
        ("a.csv", b"id\n", "'a.csv' holds no rows"),
    ],
)
def test_a_file_without_rows_is_said_in_one_line(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message) as error:
        read_rows(write(tmp_path / name, content))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_said_plainly(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file '.*absent.jsonl'"):
        read_rows(tmp_path / "absent.jsonl")
    with pytest.raises(ValueError, match="is a folder"):
        read_rows(tmp_path)


def test_lines_are_streamed(tmp_path):
    path = write(tmp_path / "a.jsonl", lines(*GOOD))
    rows = iter_rows(path)
    assert next(rows).number == 1


def test_a_line_of_many_pieces_costs_time_in_proportion(tmp_path):
    path = write(tmp_path / "a.jsonl", lines(b'"' + b"x" * (20 * LONGEST_ROW) + b'"', GOOD[0]))
    started = time.process_time()
    rows = read_rows(path)
    assert ids(rows) == [1]
    assert len(rows.bad[0].raw) < 2000
    assert time.process_time() - started < 5


def test_rejected_rows_are_written_as_json_lines_even_broken_texts(tmp_path):
    broken = [b'{"id": 9, "text": "\\ud83d"}', b'{"id": "\xff"}', b"nonsense"]
    rows = read_rows(write(tmp_path / "a.jsonl", lines(GOOD[0], *broken)))
    refused = [*rows.bad, rows.good[0].refused("text", "too short")]
    write_rejected(refused, tmp_path / "new" / "folder" / "rejected.jsonl")
    written = [json.loads(line) for line in (tmp_path / "new/folder/rejected.jsonl").read_text().splitlines()]
    assert [(row["row"], row["column"]) for row in written] == [(2, None), (3, None), (4, None), (1, "text")]
    assert written[0]["raw"] == '{"id": 9, "text": "\\ud83d"}'
    assert json.loads(written[3]["raw"]) == GOOD[0]


def test_a_device_takes_rejected_rows_and_stays_a_device(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    rows = read_rows(write(tmp_path / "a.jsonl", lines(GOOD[0], b"nonsense")))
    write_rejected(rows.bad, pipe)
    assert json.loads(os.read(reader, 10_000))["raw"] == "nonsense"
    os.close(reader)
    assert pipe.is_fifo()


def test_the_default_place_of_rejected_rows_is_below_build_and_never_beside_the_input(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path / "checkout"))
    path = default_rejected_path(tmp_path / "judged" / "gpt-4_single.jsonl.gz", "score-mt-bench")
    assert path == tmp_path / "checkout/build/rejected/score-mt-bench/gpt-4_single.jsonl"
    assert default_rejected_path(tmp_path / "judged", "score-mt-bench").name == "judged.jsonl"
