"""Strict JSON objects out of text that may be broken, and the elements of a list that may be broken.

Strict means that what a reader could take in two ways is refused: a duplicate key, NaN and Infinity, numbers beyond
64 bits, half a surrogate pair, bytes that are not UTF-8. Python's parser stays, since msgspec lets duplicate keys and
long numbers pass and does not say which key holds a NaN.
"""

import json
import math
import re
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

from zephyr_lab.core.row_types import BadColumn

_KEY = r'"((?:[^"\\]|\\.)*)"\s*:'
_FIRST_KEY = re.compile(r"\{\s*" + _KEY)
_OBJECT_START = re.compile(r'\{\s*"')
_OPENINGS = re.compile(rf"(?:[\[{{]\s*(?:{_KEY}\s*)?)+")
_AFTER_A_VALUE = re.compile(r"\s*(?:,|\]?\s*\Z)")
_BETWEEN = re.compile(r"[\s,\ufeff]*")
_DEEPEST = 100
_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


def parse_object(text: str) -> dict[str, Any]:
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


def split_list(text: str) -> Iterator[str]:
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
    """Whether more than `_DEEPEST` lists and objects stand inside each other."""
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
