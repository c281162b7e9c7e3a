"""Strict JSON objects out of text that may be broken: one, or all that a list still holds.

Strict means that what a reader could take in two ways is refused: a key that stands twice, NaN and Infinity,
numbers beyond 64 bits, half a surrogate pair, bytes that were no UTF-8.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

_KEY = r'"((?:[^"\\]|\\.)*)"\s*:'
_OBJECT_START = re.compile(r'\{\s*"')
_FIRST_KEY = re.compile(r"\{\s*" + _KEY)
_OPENINGS = re.compile(rf"(?:[\[{{]\s*(?:{_KEY}\s*)?)+")
_AFTER_A_ROW = re.compile(r"\s*(?:,|\]?\s*\Z)")
_BETWEEN = re.compile(r"[\s,]*")
_DEEPEST = 100
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


class NotAnObject(ValueError):
    """Text that is no strict JSON object; `column` is the key at fault, None where it is none or unknown."""

    def __init__(self, problem: str, column: str | None = None):
        super().__init__(problem)
        self.column = column


@dataclass(frozen=True, slots=True)
class Piece:
    """An element of a list: its text, and its value or, where that is None, what is wrong."""

    text: str
    value: dict[str, Any] | None
    problem: str = ""
    column: str | None = None


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that is all of `text`; raises NotAnObject."""
    text = text.strip()
    value, end = _object_at(text, 0)
    if end != len(text):
        raise NotAnObject(f"is not JSON: more text after the object's end, at sign {end + 1}")
    return value


def split_list(text: str) -> Iterator[Piece]:
    """The elements of a JSON list of objects, or of objects that follow each other, broken ones included.

    After a broken element the reading goes on at the next text that parses as an object. Where that is only a
    part of the broken one (it shares less than half of its keys with the usual row), it stays in it.
    """
    found = list(_scan(text))
    usual = _usual_keys(found)
    first_keys = {next(iter(part.keys), None) for part in found if part.keys and _alike(part.keys, usual)}
    broken: _Part | None = None
    for part in found:
        whole = part.keys is not None and ((part.expected and not broken) or _alike(part.keys, usual))
        start = _FIRST_KEY.match(text, part.start)
        another_broken_row = part.keys is None and start is not None and start[1] in first_keys
        if broken and (whole or another_broken_row):
            yield broken.piece(text)
            broken = None
        if whole:
            yield part.piece(text)
        else:
            broken = replace(broken or replace(part, value=None), end=part.end)
    if broken:
        yield broken.piece(text)


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of a list's text: a value, `expected` where one had to start, or what stands between two.

    `keys` are None where no value ends there; `value` is None where it is no strict object.
    """

    start: int
    end: int
    expected: bool
    keys: tuple[str, ...] | None = None
    value: dict[str, Any] | None = None
    problem: str = ""
    column: str | None = None

    def piece(self, text: str) -> Piece:
        return Piece(text[self.start : self.end], self.value, self.problem, self.column)


def _scan(text: str) -> Iterator[_Part]:
    """Every value, and every stretch of text between that is none."""
    is_list = text.lstrip().startswith("[")
    is_closed = is_list and text.rstrip().endswith("]")
    position = text.index("[") + 1 if is_list else 0
    behind = text.rindex("]") if is_closed else len(text)
    expected = True
    while (position := _BETWEEN.match(text, position).end()) < behind:
        part = _part_at(text, position, expected)
        yield part if part.end <= behind else replace(part, end=behind)
        position, expected = part.end, part.keys is not None
    if is_list and not is_closed and expected:
        yield _Part(behind, behind, True, (), None, "the file breaks off here: the list is not closed")


def _part_at(text: str, position: int, expected: bool) -> _Part:
    try:
        value, end = _object_at(text, position)
        return _Part(position, end, expected, tuple(value), value)
    except NotAnObject as error:
        problem, column = str(error), error.column
    keys, end = _seen_leniently(text, position)
    return _Part(position, end, expected, keys, None, problem, column)


def _seen_leniently(text: str, position: int) -> tuple[tuple[str, ...] | None, int]:
    """Keys and end of the value that a lenient reader finds; None, and where to go on, where there is none."""
    try:
        value, end = _LENIENT.raw_decode(text, position)
    except (ValueError, RecursionError):
        return None, _next_start(text, position)
    if not _AFTER_A_ROW.match(text, end):
        return None, _next_start(text, position)
    return tuple(value) if isinstance(value, dict) else (), end


def _next_start(text: str, position: int) -> int:
    """Where the next object may start after a failure at `position`."""
    # A run of openings is passed over as a whole: trying each of 100,000 nested ones would take minutes.
    openings = _OPENINGS.match(text, position)
    behind = openings.end() if openings and openings.end() - position > 10_000 else position + 1
    start = _OBJECT_START.search(text, behind)
    return start.start() if start else len(text)


def _usual_keys(found: list[_Part]) -> set[str]:
    """The keys of the largest object: a row is larger than a fragment of one."""
    largest = max((part for part in found if part.keys), key=lambda part: part.end - part.start, default=None)
    return set() if largest is None or largest.keys is None else set(largest.keys)


def _alike(keys: tuple[str, ...], usual: set[str]) -> bool:
    return bool(keys) and 2 * len(usual.intersection(keys)) >= len(keys)


def _object_at(text: str, position: int) -> tuple[dict[str, Any], int]:
    """The object that starts at `position`, and where it ends; raises NotAnObject."""
    try:
        value, end = _DECODER.raw_decode(text, position)
    except _Refused as error:
        raise NotAnObject(str(error), error.key or _key_of(error.token, text, position)) from error
    except json.JSONDecodeError as error:
        raise NotAnObject(f"is not JSON: {error.msg} at sign {error.pos - position + 1}") from error
    except RecursionError as error:
        raise NotAnObject("is nested too deeply") from error
    if not isinstance(value, dict):
        raise NotAnObject(f"is no object of named columns, but {_KINDS[type(value)]}")
    if text.count("{", position, end) + text.count("[", position, end) > _DEEPEST and _depth(value) > _DEEPEST:
        # What Python can just parse, it may fail to write out again a few calls deeper.
        raise NotAnObject("is nested too deeply")
    if _HALF_PAIR.search(text, position, end):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise NotAnObject(_problem_of_bad_text(text[position:end])) from error
    return value, end


_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


def _depth(value: Any) -> int:
    """How many lists and objects stand inside each other."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _problem_of_bad_text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"sign {error.start + 1} of the row is no UTF-8"
    return "a text holds half a surrogate pair (\\ud800 to \\udfff)"


class _Refused(ValueError):
    """A value that JSON's grammar or 64 bits do not hold; the token or the key that shows it."""

    def __init__(self, problem: str, *, token: str = "", key: str | None = None):
        super().__init__(problem)
        self.token = token
        self.key = key


def _key_of(token: str, text: str, position: int) -> str | None:
    found = re.compile(_KEY + r"\s*" + re.escape(token[:100])).search(text, position)
    return found[1] if found else None


def _constant(token: str) -> None:
    raise _Refused(f"{token} is no JSON value (write null)", token=token)


def _whole_number(token: str) -> int:
    if len(token) > 20 or not -(2**63) <= (number := int(token)) < 2**63:
        raise _Refused(f"the number {token[:20]}... is beyond 64 bits", token=token)
    return number


def _real_number(token: str) -> float:
    number = float(token)
    if math.isinf(number):
        raise _Refused(f"the number {token[:20]} is beyond 64 bits", token=token)
    return number


def _columns(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    columns = dict(pairs)
    if len(columns) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _Refused("the key stands twice", key=twice)
    return columns


# Takes what the other refuses (NaN, a key twice, any size), to find where it ends.
_LENIENT = json.JSONDecoder(parse_int=str)
_DECODER = json.JSONDecoder(
    object_pairs_hook=_columns, parse_constant=_constant, parse_int=_whole_number, parse_float=_real_number
)
