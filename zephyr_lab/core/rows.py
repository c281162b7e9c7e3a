"""Rows of a user's file, the bad ones counted and never a traceback.

JSON lines, JSON lists and parquet, the first two also gzipped. A row is a JSON object; what is none (a broken line,
wrong bytes, NaN) comes back as a `BadRow` that says where and why, and every other row stays. Which columns a row needs
is the caller's business: `zephyr_lab.core.columns` reads them by type.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from zephyr_lab.core.files import write_text
from zephyr_lab.core.json_objects import parse_object, split_list
from zephyr_lab.core.paths import project_root
from zephyr_lab.core.row_types import BadColumn, BadRow, Row, Rows

KINDS = ".jsonl, .json (a list of objects), .parquet, the first two also with .gz"
LONGEST_ROW = 8 * 2**20  # bytes; no dialogue, judgement or annotation comes near it
_KEPT_OF_A_LONG_ROW = 1000
_PIECE = 2**16
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"


class _BreaksOff(ValueError):
    """Content that ends, or turns to nonsense, before its end."""


def read_rows(path: Path, read: Callable[[Row], Any] = lambda row: row) -> Rows[Any]:
    """All rows of `path` as `read` understands them; see `iter_rows` for what is raised."""
    return Rows.of(iter_rows(path), read)


def iter_rows(path: Path) -> Iterator[Row | BadRow]:
    """The rows of `path` in order; JSON lines and parquet are streamed, a JSON list is held whole.

    Raises FileNotFoundError (no such file) and ValueError (a folder, another kind of file, empty, UTF-16, or a
    parquet file that is not readable), one plain line each, before the first row.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; give one file ({KINDS})")
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind not in _READERS:
        raise ValueError(f"{path.name!r} is not a known kind of file; allowed: {KINDS}")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path.name!r} is empty")
    rows = _READERS[kind](path)
    if (first := next(rows, None)) is None:
        raise ValueError(f"{path.name!r} holds no rows")
    return chain([first], rows)


def write_rejected(bad: list[BadRow], path: Path) -> None:
    """Write bad rows as JSON lines of row, column, problem and raw (and file, where several were read).

    Raises OSError (no space, no permission) with nothing half-written.
    """
    text = "".join(_as_line(row) + "\n" for row in bad)
    if path.exists() and not path.is_file() and not path.is_dir():
        # A device or a pipe takes text, but must not be replaced by a file.
        with path.open("w", encoding="utf-8") as stream:
            stream.write(text)
        return
    write_text(path, text)


def default_rejected_path(source: Path, command: str) -> Path:
    """`build/rejected/<command>/<name of source>.jsonl` of the checkout, or of the working folder without one."""
    try:
        root = project_root()
    except FileNotFoundError:
        root = Path.cwd()
    name = Path(os.path.abspath(source)).name or "rows"
    return root / "build" / "rejected" / command / f"{name.removesuffix('.gz').removesuffix('.jsonl')}.jsonl"


def _as_line(row: BadRow) -> str:
    fields = {"row": row.row, "column": row.column, "problem": row.problem, "raw": row.raw}
    # ASCII only, so that a lone surrogate in a broken text can still be written.
    return json.dumps(fields | ({"file": row.file} if row.file else {}))


def _json_lines(path: Path) -> Iterator[Row | BadRow]:
    """One object a line, streamed; blank lines count as lines and are passed over."""
    number, line, length, problem = 1, bytearray(), 0, ""
    try:
        for piece in _content(path):
            *ended, rest = piece.split(b"\n")
            for end in ended:
                yield from _row(number, bytes(line + end[: LONGEST_ROW + 1]), length + len(end))
                number, length = number + 1, 0
                line.clear()
            length += len(rest)
            if len(line) <= LONGEST_ROW:
                line += rest
    except _BreaksOff as error:
        problem = str(error)
    last = list(_row(number, bytes(line), length))
    if problem and last and isinstance(last[0], BadRow):
        yield BadRow(number, None, f"the file breaks off in this row: {problem}", last[0].raw)
        return
    yield from last
    if problem:
        yield _broken_off(number + len(last), problem)


def _json_list(path: Path) -> Iterator[Row | BadRow]:
    """A list of objects, or objects one after another; after a broken one the next that is whole is taken."""
    content, problem = bytearray(), ""
    try:
        for piece in _content(path):
            content += piece
    except _BreaksOff as error:
        problem = str(error)
    number = 0
    # Bytes that are not UTF-8 become lone surrogates here, which make a bad row of the one they stand in.
    for number, text in enumerate(split_list(content.removeprefix(_BOM).decode("utf-8", "surrogateescape")), start=1):
        if text:
            yield from _row(number, text.encode("utf-8", "surrogateescape"))
        else:
            yield _broken_off(number, "the list is not closed")
    if problem:
        yield _broken_off(number + 1, problem)


def _row(number: int, content: bytes, length: int = 0) -> Iterator[Row | BadRow]:
    """The row in some text, nothing where it is blank; `length` is that of the text where `content` is cut."""
    content = content.removeprefix(_BOM).strip()
    if max(length, len(content)) > LONGEST_ROW:
        problem = f"longer than the {LONGEST_ROW} bytes allowed; only its first {_KEPT_OF_A_LONG_ROW} bytes are kept"
        yield BadRow(number, None, problem, _shown(content[:_KEPT_OF_A_LONG_ROW]))
    elif content:
        try:
            yield Row(number, parse_object(content.decode("utf-8", "surrogateescape")))
        except BadColumn as error:
            yield BadRow(number, error.column, str(error), _shown(content))


def _shown(content: bytes) -> str:
    return content.decode("utf-8", "backslashreplace")


def _broken_off(number: int, problem: str) -> BadRow:
    return BadRow(number, None, f"the file breaks off here: {problem}", "")


def _parquet(path: Path) -> Iterator[Row | BadRow]:
    """The rows of a table; a NaN, which is how pandas writes an empty number, comes back as None.

    A row group that cannot be read is one bad row. Raises ValueError where the file is not parquet at all.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    unreadable = (pyarrow.ArrowException, OSError, ValueError, MemoryError, OverflowError)
    try:
        table = ParquetFile(path)
        counts = [table.metadata.row_group(index).num_rows for index in range(table.num_row_groups)]
    except unreadable as error:
        raise ValueError(f"{path.name!r} is not a readable parquet file: {_one_line(error)}") from error
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
    """The rows of a pyarrow table, whose first is row `number`; a text that is not UTF-8 costs its own row only."""
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
        is_nan = {name for name, value in record.items() if isinstance(value, float) and value != value}
        yield Row(number + offset, record | dict.fromkeys(is_nan))


def _content(path: Path) -> Iterator[bytes]:
    """The bytes of a file in pieces, unpacked where they are gzip (by content: a name can lie).

    Raises ValueError for UTF-16 text, and _BreaksOff at the end of damaged or cut gzip data, after all that could be
    unpacked.
    """
    with path.open("rb") as file:
        head = file.read(_PIECE)
        if head.startswith(_UTF16):
            raise ValueError(f"{path.name!r} is UTF-16 text; save it as UTF-8")
        pieces = chain([head], iter(lambda: file.read(_PIECE), b""))
        yield from _unpack(pieces) if head.startswith(_GZIP) else pieces


def _unpack(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack one gzip member after another. The gzip module would lose what a failing call had unpacked."""
    member = zlib.decompressobj(wbits=31)
    for piece in pieces:
        while piece:
            if member.eof:
                member = zlib.decompressobj(wbits=31)
            before = member.copy()
            try:
                yield member.decompress(piece)
            except zlib.error as error:
                with contextlib.suppress(zlib.error):
                    for byte in piece:
                        yield before.decompress(bytes([byte]))
                raise _BreaksOff(f"damaged gzip data ({error})") from error
            piece = member.unused_data.lstrip(b"\0")  # some tools pad the end with zeros
    if not member.eof:
        raise _BreaksOff("the gzip data are cut short")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


_READERS: dict[str, Callable[[Path], Iterator[Row | BadRow]]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".parquet": _parquet,
}
