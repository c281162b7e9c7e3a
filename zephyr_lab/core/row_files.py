"""Rows of a user's file; bad ones are counted and named, and cost no other row.

JSON lines, JSON lists, CSV (`core.csv_rows`) and parquet, all but the last also gzipped. Whatever is not a JSON object
(a broken line, wrong bytes, NaN) comes back as a `BadRow` that says where and why. Which columns a row needs is the
caller's business: `zephyr_lab.core.rows` reads them by type. Files that a stage wrote are not read here but by
`data.splits.stage_rows`.

JSON is read strictly: what readers could take in two ways is refused (a duplicate key, NaN and Infinity, numbers
beyond 64 bits, half a surrogate pair, bytes that are not UTF-8). That takes Python's parser: msgspec accepts duplicate
keys and long numbers, and does not say which key holds a NaN.
"""

import contextlib
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from zephyr_lab.core import csv_rows
from zephyr_lab.core.csv_rows import UTF16
from zephyr_lab.core.files import write_text
from zephyr_lab.core.paths import project_root
from zephyr_lab.core.rows import BadColumn, BadRow, Row, Rows, one_line

KINDS = ".jsonl, .json (a list of objects), .csv, .parquet, all but the last also with .gz"
LONGEST_ROW = 8 * 2**20  # bytes; no dialogue, judgement or annotation comes near it
_KEPT_OF_A_LONG_ROW = 1000
_PIECE = 2**16
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_KEY = r'"((?:[^"\\]|\\.)*)"\s*:'
_FIRST_KEY = re.compile(r"\{\s*" + _KEY)
_OBJECT_START = re.compile(r'\{\s*"')
_OPENINGS = re.compile(rf"(?:[\[{{]\s*(?:{_KEY}\s*)?)+")
_AFTER_A_VALUE = re.compile(r"\s*(?:,|\]?\s*\Z)")
_BETWEEN = re.compile(r"[\s,\ufeff]*")
_DEEPEST = 100
_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


class _BreaksOff(ValueError):
    """Content that ends, or turns to nonsense, before its end."""


def read_rows(path: Path, read: Callable[[Row], Any] = lambda row: row) -> Rows[Any]:
    """All rows of `path` as `read` understands them; see `iter_rows` for what is raised."""
    return Rows.of(iter_rows(path), read)


def iter_rows(path: Path) -> Iterator[Row | BadRow]:
    """The rows of `path` in order; JSON lines and parquet are streamed, a JSON list and a CSV table are held whole.

    Raises FileNotFoundError (no such file) and ValueError (a folder, another kind of file, empty, another encoding, or
    a parquet file that is not readable), one plain line each, before the first row.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; name one file ({KINDS})")
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
    if is_device(path):
        with path.open("w", encoding="utf-8") as stream:
            stream.write(text)
        return
    write_text(path, text)


def is_device(path: Path) -> bool:
    """Whether `path` is a device or a pipe: it takes text, but must not be replaced by a file."""
    return path.exists() and not path.is_file() and not path.is_dir()


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
    # Bytes that are not UTF-8 become lone surrogates here, which make a bad row of the one that holds them.
    for number, text in enumerate(_split_list(content.removeprefix(_BOM).decode("utf-8", "surrogateescape")), start=1):
        if text:
            yield from _row(number, text.encode("utf-8", "surrogateescape"))
        else:
            yield _broken_off(number, "the list is not closed")
    if problem:
        yield _broken_off(number + 1, problem)


def _csv(path: Path) -> Iterator[Row | BadRow]:
    content, problem = bytearray(), ""
    try:
        for piece in _content(path, utf16=True):
            content += piece
    except _BreaksOff as error:
        problem = str(error)
        content = content[: content.rfind(b"\n") + 1]  # the last row is not whole
    number = 0
    for row in csv_rows.rows(bytes(content), path.name):
        number = row.number if isinstance(row, Row) else row.row
        yield row
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
            yield Row(number, _parse_object(content.decode("utf-8", "surrogateescape")))
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
        raise ValueError(f"{path.name!r} is not a readable parquet file: {one_line(error)}") from error
    with table:
        number = 1
        for index, count in enumerate(counts):
            try:
                group = table.read_row_group(index)
            except unreadable as error:
                yield BadRow(number, None, f"{count} rows from here cannot be read: {one_line(error)}", "")
            else:
                yield from _group_rows(group, number)
            number += count


def _group_rows(group: Any, number: int) -> Iterator[Row | BadRow]:
    """The rows of a pyarrow table, whose first is row `number`; a text that is not UTF-8 costs its own row only."""
    try:
        records = group.to_pylist()
    except ValueError as error:
        if group.num_rows == 1:
            yield BadRow(number, None, f"cannot be read: {one_line(error)}", "")
            return
        for offset in range(group.num_rows):
            yield from _group_rows(group.slice(offset, 1), number + offset)
        return
    for offset, record in enumerate(records):
        is_nan = {name for name, value in record.items() if isinstance(value, float) and value != value}
        yield Row(number + offset, record | dict.fromkeys(is_nan))


def _content(path: Path, *, utf16: bool = False) -> Iterator[bytes]:
    """The bytes of a file in pieces, unpacked where they are gzip (by content: a name can lie).

    Raises ValueError for UTF-16 text where that is not allowed, and _BreaksOff at the end of damaged or cut gzip data,
    after all that could be unpacked.
    """
    with path.open("rb") as file:
        head = file.read(_PIECE)
        if head.startswith(UTF16) and not utf16:
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


def _parse_object(text: str) -> dict[str, Any]:
    """The JSON object that is all of `text`. Raises BadColumn, with the key at fault where one is known."""
    try:
        text.encode()
        value = _STRICT.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        if error.object is text:
            problem = f"character {error.start + 1} is not UTF-8"
        else:
            problem = "a text holds half a surrogate pair (\\ud800 to \\udfff)"
        raise BadColumn(None, problem) from error
    except json.JSONDecodeError as error:
        raise BadColumn(None, f"is not JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}") from error
    except _BadNumber as error:
        key = re.search(_KEY + r"\s*" + re.escape(error.token[:100]), text)
        raise BadColumn(key[1] if key else None, str(error)) from error
    except RecursionError as error:
        raise BadColumn(None, "is nested too deeply") from error
    if not isinstance(value, dict):
        raise BadColumn(None, f"is not a JSON object, but {_KINDS[type(value)]}")
    if text.count("{") + text.count("[") > _DEEPEST and _is_deep(value):
        # What Python can just parse, it may fail to write out again a few calls deeper.
        raise BadColumn(None, "is nested too deeply")
    return value


def _split_list(text: str) -> Iterator[str]:
    """The texts of the elements of a JSON list, or of objects that follow each other, broken ones included.

    A broken element ends where the next row starts: at an object that can be parsed and has at least half of its keys
    in common with the usual row (else it is a part of the broken one), or that at least starts with a row's first key.
    An unclosed list ends with an empty element.
    """
    inside = text.strip()
    is_list, is_closed = inside.startswith("["), inside.endswith("]")
    inside = inside[is_list : -1 if is_list and is_closed else None]
    values = list(_values(inside))
    bounds = pairwise([*(start for start, _ in values), len(inside)])
    objects = [(end - start, keys) for (start, end), (_, keys) in zip(bounds, values, strict=True) if keys]
    usual = set(max(objects, default=(0, ()))[1])  # of the largest object: a row is larger than a part of one

    def alike(keys: tuple[str, ...]) -> bool:
        return bool(keys) and 2 * len(usual.intersection(keys)) >= len(keys)

    first_keys = {keys[0] for _, keys in objects if alike(keys)}
    starts: list[int] = []
    is_broken = False
    for start, keys in values:
        first = _FIRST_KEY.match(inside, start)
        if not is_broken or alike(keys or ()) or (keys is None and first and first[1] in first_keys):
            starts.append(start)
            is_broken = keys is None
    for start, end in pairwise([*starts, len(inside)]):
        yield inside[start:end].rstrip(", \t\r\n\ufeff")
    if is_list and not is_closed and not is_broken:
        yield ""


def _values(text: str) -> Iterator[tuple[int, tuple[str, ...] | None]]:
    """Where each value starts, and its keys; None where no value can be parsed, which includes the text up to the
    next object that may start."""
    position = 0
    while (position := _BETWEEN.match(text, position).end()) < len(text):  # type: ignore[union-attr]
        try:
            value, end = _LENIENT.raw_decode(text, position)
            if not isinstance(value, dict) and not _AFTER_A_VALUE.match(text, end):
                raise ValueError
            yield position, tuple(value) if isinstance(value, dict) else ()
        except (ValueError, RecursionError):
            yield position, None
            # A run of openings is passed over as a whole: trying each of 100,000 nested ones would take minutes.
            openings = _OPENINGS.match(text, position)
            behind = openings.end() if openings and openings.end() - position > 10_000 else position + 1
            following = _OBJECT_START.search(text, behind)
            end = following.start() if following else len(text)
        position = end


def _is_deep(value: Any) -> bool:
    """Whether more than `_DEEPEST` lists and objects are nested."""
    level = [value]
    for _ in range(_DEEPEST):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = list(chain.from_iterable(inner))
    return any(isinstance(item, dict | list) for item in level)


class _BadNumber(ValueError):
    """A number that JSON's grammar or 64 bits do not hold, as it is written."""

    def __init__(self, problem: str, token: str):
        super().__init__(problem)
        self.token = token


def _constant(token: str) -> None:
    raise _BadNumber(f"{token} is not JSON (write null)", token)


def _whole_number(token: str) -> int:
    if len(token) > 20 or not -(2**63) <= (number := int(token)) < 2**63:
        raise _BadNumber(f"the number {token[:20]}... is beyond 64 bits", token)
    return number


def _real_number(token: str) -> float:
    if math.isinf(number := float(token)):
        raise _BadNumber(f"the number {token[:20]} is beyond 64 bits", token)
    return number


def _columns(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    columns = dict(pairs)
    if len(columns) != len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for key in keys if keys.count(key) > 1)
        raise BadColumn(duplicate, f"duplicate key {duplicate!r}")
    return columns


# Takes what the other refuses (NaN, a duplicate key, any size), to find where it ends.
_LENIENT = json.JSONDecoder(parse_int=str)
_STRICT = json.JSONDecoder(
    object_pairs_hook=_columns, parse_constant=_constant, parse_int=_whole_number, parse_float=_real_number
)


_READERS: dict[str, Callable[[Path], Iterator[Row | BadRow]]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".csv": _csv,
    ".parquet": _parquet,
}
