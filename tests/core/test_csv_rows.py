"""CSV tables: separators, encodings, lists in cells, and rows that cannot be read."""

import csv
import json
import random

import pytest

from zephyr_lab.core.row_files import read_rows
from zephyr_lab.core.rows import Row

TURNS = [{"role": "user", "content": "Wie heißt, das?\nSag."}, {"role": "assistant", "content": 'Ein "Ding"; ja'}]


def table(path, rows, *, encoding="utf-8", separator=","):
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_texts_and_messages_come_back_as_they_were(tmp_path, encoding, separator):
    rows = [{"messages": json.dumps(TURNS), "note": "a,b;c\td"}, {"messages": json.dumps(TURNS[:1]), "note": ""}]
    read = read_rows(table(tmp_path / "a.csv", rows, encoding=encoding, separator=separator))
    expected = [{"messages": TURNS, "note": "a,b;c\td"}, {"messages": TURNS[:1], "note": None}]
    assert [(row.number, row.data) for row in read.good] == [(1, expected[0]), (2, expected[1])] and not read.bad


def test_an_answer_that_is_json_stays_a_text(tmp_path):
    rows = [{"prompt": "Write JSON.", "chosen": '{"a": 1}', "rejected": "[1, 2]"}]
    assert [row.data for row in read_rows(table(tmp_path / "a.csv", rows)).good] == rows


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_another_encoding_is_refused_with_the_way_out(tmp_path, encoding):
    path = table(tmp_path / "a.csv", [{"prompt": "plain"}, {"prompt": "heißt"}], encoding=encoding)
    with pytest.raises(ValueError, match=r"'a\.csv' is not UTF-8: byte 0xdf in line 3; save it as UTF-8 .* iconv"):
        read_rows(path)


def test_utf_16_without_a_mark_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes("prompt\nwhy\n".encode("utf-16-le"))
    with pytest.raises(ValueError, match="UTF-16 without a byte order mark"):
        read_rows(tmp_path / "a.csv")


def test_a_bad_row_costs_no_other(tmp_path):
    lines = ["prompt,chosen", "a,b", "a", "", "a,b,c", "c,\"[{'role': 'user', 'content': 'x'}]\"", "d,e", 'f,"open', ""]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    read = read_rows(tmp_path / "a.csv")
    assert [(row.number, row.data["prompt"]) for row in read.good] == [(1, "a"), (5, "d")]
    assert [row.row for row in read.bad] == [2, 3, 4, 6]
    problems = [row.problem for row in read.bad]
    assert problems[0].startswith("has 1 cells, and the table 2 columns")
    assert "Python's spelling" in problems[2] and "unexpected end of data" in problems[3]


@pytest.mark.parametrize("head", ["a,a", "a,,b", '"a'])
def test_columns_must_be_named_once(tmp_path, head):
    (tmp_path / "a.csv").write_text(f"{head}\n1,2\n")
    with pytest.raises(ValueError, match=r"'a\.csv'"):
        read_rows(tmp_path / "a.csv")


def test_no_bytes_make_it_raise_anything_but_value_error(tmp_path):
    draw = random.Random(0)
    for _ in range(300):
        content = bytes(draw.choice(b"a,\";\n\r\t[{'}]\xff\xfe\x00") for _ in range(draw.randrange(1, 40)))
        (tmp_path / "a.csv").write_bytes(content)
        try:
            read = read_rows(tmp_path / "a.csv")
        except ValueError:
            continue
        numbers = sorted(row.number if isinstance(row, Row) else row.row for row in [*read.good, *read.bad])
        assert numbers == [*range(1, len(numbers) + 1)]
