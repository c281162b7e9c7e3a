"""Rows of a CSV table: UTF-8 (with a byte order mark or without) or UTF-16; commas, semicolons or tabs.

A table of another encoding is refused by name: which one it is cannot be known, and a wrong guess spoils texts without
a word. Lists of messages stand in their cells as JSON, as `datasets` writes them. An empty cell is null.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from zephyr_lab.core.rows import BadColumn, BadRow, Row

SEPARATORS = ",;\t"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LISTS = frozenset({"messages", "conversations", "data", "completions", "history", "turns"})
_TURNS = ({"role", "content"}, {"from", "value"})
_SPELLED_BY_PYTHON = re.compile(r"\s*\[?\s*\{\s*'(role|content|from|value)'")
_LONGEST_CELL = 8 * 2**20
_WAY_OUT = "save it as UTF-8 (in a spreadsheet: 'CSV UTF-8'), or: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW.csv"


def rows(content: bytes, name: str) -> Iterator[Row | BadRow]:
    """The rows of a table whose first line names the columns, numbered from 1 without that line.

    A row with more cells than columns, or fewer, is a bad one. Raises ValueError for another encoding, and for columns
    without a name or with one name twice.
    """
    lines = io.StringIO(_decoded(content, name), newline="")
    first = lines.readline()
    lines.seek(0)
    csv.field_size_limit(_LONGEST_CELL)
    separator = max(SEPARATORS, key=first.count)
    table = csv.reader(lines, delimiter=separator, strict=True)
    number, columns = 0, None
    while True:
        try:
            cells = next(table, None)
        except csv.Error as error:  # of a quote that is never closed, all lines behind it are part
            if columns is None:
                raise ValueError(f"{name!r} has no readable line of column names: {error}") from error
            number += 1
            yield BadRow(number, None, f"is not CSV: {error} (line {table.line_num} of the file)", "")
            continue
        if cells is None:
            return
        if columns is None:
            columns = _columns(cells, name)
        elif cells:  # not a blank line
            number += 1
            yield _row(number, columns, cells, separator)


def _decoded(content: bytes, name: str) -> str:
    if content.startswith(UTF16):
        return content.decode("utf-16")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{name!r} is not UTF-8: byte 0x{content[error.start]:02x} in line {line}; {_WAY_OUT}"
        ) from error
    if "\0" in text:
        raise ValueError(f"{name!r} holds zero bytes, as UTF-16 without a byte order mark does; {_WAY_OUT}")
    return text


def _columns(cells: list[str], name: str) -> list[str]:
    columns = [cell.strip() for cell in cells]
    if "" in columns or len(set(columns)) != len(columns):
        raise ValueError(
            f"the first line of {name!r} must name each column once, got {', '.join(map(repr, columns[:8]))}"
        )
    return columns


def _row(number: int, columns: list[str], cells: list[str], separator: str) -> Row | BadRow:
    if len(cells) != len(columns):
        problem = f"has {len(cells)} cells, and the table {len(columns)} columns: {', '.join(columns[:8])}"
        return BadRow(number, None, problem, separator.join(cells))
    row = Row(number, dict(zip(columns, cells, strict=True)))
    try:
        return Row(number, {column: _value(column, cell) for column, cell in row.data.items()})
    except BadColumn as error:
        return row.refused(error.column, str(error))


def _value(column: str, cell: str) -> Any:
    """A text, null for an empty cell, or what the cell is JSON of: in a column of lists, or where it holds messages.

    An answer that is JSON itself stays a text. Raises BadColumn for messages in Python's spelling, which pandas writes.
    """
    if not cell.lstrip().startswith(("[", "{")):
        return cell or None
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        if _SPELLED_BY_PYTHON.match(cell):
            raise BadColumn(
                column, "holds messages in Python's spelling; write them as JSON, or the table as .jsonl"
            ) from None
        return cell
    return value if column in _LISTS or _holds_messages(value) else cell


def _holds_messages(value: Any) -> bool:
    turns = value if isinstance(value, list) else [value]
    return bool(turns) and all(isinstance(turn, dict) and any(turn.keys() >= keys for keys in _TURNS) for turn in turns)
