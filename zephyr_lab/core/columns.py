"""Columns of a row read by type: what they hold, or one plain statement of what is wrong with which of them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from zephyr_lab.core.row_types import BadColumn

Text = Annotated[str, msgspec.Meta(pattern=r"\S")]  # a text that is not blank
_NAMES = {
    "str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "null": "null",
    "object": "an object", "array": "a list",
}  # fmt: skip
_LIMITS = {r" matching regex '\\S'": " that is not blank", " of length >= 1": " that is not empty"}
_PLACE = re.compile(r"\[(\d+)\]|\.?([^.\[]+)")


def read_as(value: Any, kind: Any, at: str = "") -> Any:
    """`value` in the type `kind`, whose fields are the columns that are read; further ones do no harm.

    `at` is the column that holds the value, "" for a row. Raises BadColumn with the path of what is missing or of
    another type, such as messages[2].content.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).rpartition(" - at `$") if " - at `$" in str(error) else (str(error), "", "")
        raise _refusal(problem, path.removesuffix("`"), value, at) from None
    except UnicodeEncodeError:
        raise BadColumn(at or None, "a name holds half a surrogate pair (\\ud800 to \\udfff)") from None


def required(data: Mapping[str, Any], column: str) -> Any:
    """The value of a column that must be there; it may be None. Raises BadColumn."""
    if column not in data:
        raise BadColumn(column, _missing(data))
    return data[column]


def text(data: Mapping[str, Any], column: str) -> str:
    """A text that is not blank. Raises BadColumn."""
    return read_as(required(data, column), Text, column)


def shown(value: Any) -> str:
    """A value as a message may carry it: one line, 40 characters at most."""
    if value == []:
        return "an empty list"
    spelled = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
    return spelled if len(spelled) <= 40 else f"{spelled[:37]}..."


def _refusal(problem: str, path: str, value: Any, at: str) -> BadColumn:
    """What msgspec says of the value at `path`, in the words of a row's columns and with the value that is there."""
    for place, name in _PLACE.findall(path):
        value = value[int(place)] if place else value[name]
    column = (at + path).lstrip(".")
    if field := re.fullmatch("Object missing required field `(.*)`", problem):
        return BadColumn(f"{column}.{field[1]}".lstrip("."), _missing(value))
    kinds, limit = re.match("Expected `(.*?)`(?:, got .*)?(.*)", problem).groups()  # type: ignore[union-attr]
    wanted = " or ".join(_NAMES.get(kind, kind) for kind in kinds.split(" | "))
    limit = _LIMITS.get(limit, limit)
    return BadColumn(column, f"must be {wanted}{limit}, got {shown(value)}")


def _missing(data: Mapping[str, Any]) -> str:
    return f"is missing; the columns are {', '.join(list(data)[:8]) or 'no columns'}"
