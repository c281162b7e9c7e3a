"""The three formats behind `zephyr_lab.core.rows`: JSON lines, JSON lists, parquet; each gives rows and bad rows."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core.json_objects import NotAnObject, parse_object, split_list
from zephyr_lab.core.row_types import LONGEST_ROW, BadRow, Row

_PIECE = 2**16
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"
_KEPT_OF_A_LONG_ROW = 1000


@dataclass(frozen=True, slots=True)
class _BrokenOff:
    """Stands at the end of content that ends, or turns to nonsense, before its end."""

    problem: str


@dataclass(frozen=True, slots=True)
class _Line:
    """A line without its end, cut once it is longer than allowed; `length` counts all of its bytes."""

    number: int
    content: bytes
    length: int
    broken_off: str = ""


def json_lines(path: Path) -> Iterator[Row | BadRow]:
    """One object a line, streamed; blank lines count as lines and are passed over."""
    for line in _lines(_content(path)):
        row = _row_of(line)
        if line.broken_off and isinstance(row, BadRow):
            yield BadRow(line.number, None, f"the file breaks off in this row: {line.broken_off}", row.raw)
            continue
        if row is not None:
            yield row
        if line.broken_off:
            behind = line.number + (row is not None)
            yield BadRow(behind, None, f"the file breaks off here: {line.broken_off}", "")


def json_list(path: Path) -> Iterator[Row | BadRow]:
    """A list of objects, or objects one after another; after a broken one the next that is whole is found."""
    *pieces, last = _content(path)
    if isinstance(last, bytes):
        pieces.append(last)
    # Bytes that are no UTF-8 become lone surrogates here, which make a bad row of the one they stand in.
    text = b"".join(pieces).removeprefix(_BOM).decode("utf-8", errors="surrogateescape")
    number = 0
    for number, piece in enumerate(split_list(text), start=1):
        raw = piece.text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if len(raw) > LONGEST_ROW:
            yield _too_long(number, raw)
        elif piece.value is None:
            yield BadRow(number, piece.column, piece.problem, raw)
        else:
            yield Row(number, piece.value)
    if isinstance(last, _BrokenOff):
        yield BadRow(number + 1, None, f"the file breaks off here: {last.problem}", "")


def parquet(path: Path) -> Iterator[Row | BadRow]:
    """The rows of a table; a NaN, which is how pandas writes an empty number, comes back as None.

    A row group that cannot be read is one bad row. Raises ValueError where the file is no parquet at all.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    unreadable = (pyarrow.ArrowException, OSError, ValueError, MemoryError, OverflowError)
    try:
        table = ParquetFile(path)
        counts = [table.metadata.row_group(index).num_rows for index in range(table.num_row_groups)]
    except unreadable as error:
        raise ValueError(f"{path.name!r} is no readable parquet file: {_one_line(error)}") from error
    with table:
        number = 1
        for index, count in enumerate(counts):
            try:
                group = table.read_row_group(index)
            except unreadable as error:
                yield BadRow(number, None, f"{count} rows from here cannot be read: {_one_line(error)}", "")
            else:
                yield from _group_rows(group, number)
            number += count


def _group_rows(group: Any, number: int) -> Iterator[Row | BadRow]:
    """The rows of a pyarrow table, whose first is row `number`; a text that is no UTF-8 costs its own row only."""
    try:
        records = group.to_pylist()
    except ValueError as error:
        if group.num_rows == 1:
            yield BadRow(number, None, f"cannot be read: {_one_line(error)}", "")
            return
        for offset in range(group.num_rows):
            yield from _group_rows(group.slice(offset, 1), number + offset)
        return
    for offset, record in enumerate(records):
        yield Row(number + offset, {name: _without_nan(value) for name, value in record.items()})


def _row_of(line: _Line) -> Row | BadRow | None:
    """The row in a line; None where the line is blank."""
    content = line.content.removeprefix(_BOM).strip()
    shown = content.decode("utf-8", "backslashreplace")
    if line.length > LONGEST_ROW:
        return _too_long(line.number, shown)
    if not content:
        return None
    try:
        return Row(line.number, parse_object(content.decode("utf-8")))
    except UnicodeDecodeError as error:
        return BadRow(line.number, None, f"byte {error.start + 1} of the row is no UTF-8", shown)
    except NotAnObject as error:
        return BadRow(line.number, error.column, str(error), shown)


def _too_long(number: int, text: str) -> BadRow:
    problem = f"longer than the {LONGEST_ROW} bytes allowed; only its first {_KEPT_OF_A_LONG_ROW} signs are kept"
    return BadRow(number, None, problem, text[:_KEPT_OF_A_LONG_ROW])


def _lines(content: Iterator[bytes | _BrokenOff]) -> Iterator[_Line]:
    """The lines of `content`, the last with `broken_off` set where the content says so."""
    number, pending, length = 1, bytearray(), 0
    broken_off = ""
    for piece in content:
        if isinstance(piece, _BrokenOff):
            broken_off = piece.problem
            break
        *ended, rest = piece.split(b"\n")
        for line in ended:
            yield _Line(number, bytes(pending + line[: LONGEST_ROW + 1]), length + len(line))
            number, length = number + 1, 0
            pending.clear()
        length += len(rest)
        if len(pending) <= LONGEST_ROW:
            pending += rest
    if pending or broken_off:
        yield _Line(number, bytes(pending), length, broken_off)


def _content(path: Path) -> Iterator[bytes | _BrokenOff]:
    """The bytes of a file in pieces, unpacked where they are gzip (by content: a name can lie).

    Raises ValueError for UTF-16 text. Damaged or cut gzip data end with `_BrokenOff`, after all that could be
    unpacked.
    """
    with path.open("rb") as file:
        head = file.read(_PIECE)
        if head.startswith(_UTF16):
            raise ValueError(f"{path.name!r} is UTF-16 text; save it as UTF-8")
        pieces = _then(head, iter(lambda: file.read(_PIECE), b""))
        yield from _unpack(pieces) if head.startswith(_GZIP) else pieces


def _then(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from others


def _unpack(pieces: Iterator[bytes]) -> Iterator[bytes | _BrokenOff]:
    """Unpack one gzip member after another."""
    member = zlib.decompressobj(wbits=31)
    for piece in pieces:
        while piece:
            if member.eof:
                member = zlib.decompressobj(wbits=31)
            before = member.copy()
            try:
                yield member.decompress(piece)
            except zlib.error as error:
                yield _up_to_the_damage(before, piece)
                yield _BrokenOff(f"damaged gzip data ({error})")
                return
            piece = member.unused_data.lstrip(b"\0")  # some tools pad the end with zeros
    if not member.eof:
        yield _BrokenOff("the gzip data are cut short")


def _up_to_the_damage(member: Any, piece: bytes) -> bytes:
    """What a damaged piece still gives: zlib drops the whole output of a call that fails, so go byte by byte."""
    unpacked = bytearray()
    for index in range(len(piece)):
        try:
            unpacked += member.decompress(piece[index : index + 1])
        except zlib.error:
            break
    return bytes(unpacked)


def _without_nan(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
