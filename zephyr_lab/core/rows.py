"""A row of a user's file, good or bad, and the types of its columns.

`read_as` reads columns by type (msgspec) or says in one plain statement which column is wrong, what it must be and
what it holds. A row that a reader refuses becomes a `BadRow`, and every other row stays.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec

Read = TypeVar("Read")
Text = Annotated[str, msgspec.Meta(pattern=r"\S")]  # a text that is not blank
_NAMES = {
    "str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "null": "null",
    "object": "an object", "array": "a list",
}  # fmt: skip
_LIMITS = {r" matching regex '\\S'": " that is not blank", " of length >= 1": " that is not empty"}
_STEP = re.compile(r"\[(\d+)\]|\.?([^.\[]+)")


class BadColumn(ValueError):
    """What is wrong with a row; `column` names the one at fault, None where the row as a whole is."""

    def __init__(self, column: str | None, problem: str):
        super().__init__(problem)
        self.column = column


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used.

    `row` counts from 1: the line of a .jsonl file, else the position in the list or table. `column` is the one at
    fault, None where the row as a whole is. `raw` is the row's text, cut only where it is too long.
    """

    row: int
    column: str | None
    problem: str
    raw: str
    file: str = ""

    def __str__(self) -> str:
        where = f"{self.file} row {self.row}" if self.file else f"row {self.row}"
        return f"{where}, column {self.column}: {self.problem}" if self.column else f"{where}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Row:
    """The columns of a row and its position in the file, counted as in `BadRow`."""

    number: int
    data: dict[str, Any]
    file: str = ""

    def refused(self, column: str | None, problem: str) -> BadRow:
        """The same row as a bad one."""
        raw = json.dumps(self.data, ensure_ascii=False, default=str)
        return BadRow(self.number, column, problem, raw, self.file)


@dataclass(frozen=True, slots=True)
class Rows(Generic[Read]):
    """Rows as they were read, and the bad ones, each list in the file's order."""

    good: list[Read]
    bad: list[BadRow]

    @classmethod
    def of(cls, rows: Iterable[Row | BadRow], read: Callable[[Row], Read]) -> "Rows[Read]":
        """`checked`, sorted into the two lists."""
        parted = cls([], [])
        for one in checked(rows, read):
            (parted.bad if isinstance(one, BadRow) else parted.good).append(one)  # type: ignore[arg-type]
        return parted


def checked(rows: Iterable[Row | BadRow], read: Callable[[Row], Read]) -> Iterator[Read | BadRow]:
    """Each row as `read` understands it; one that it refuses (BadColumn) comes back as a bad row."""
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            yield read(row)
        except BadColumn as error:
            yield row.refused(error.column, str(error))


def read_as(value: Any, kind: Any, at: str = "") -> Any:
    """`value` in the type `kind`; of a struct its fields are the columns that are read, and other columns are ignored.

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
    """A value for a message: one line, 40 characters at most."""
    if value == []:
        return "an empty list"
    spelled = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
    return spelled if len(spelled) <= 40 else f"{spelled[:37]}..."


def one_line(error: BaseException) -> str:
    """The message of a library's error in one line of 200 characters at most."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _refusal(problem: str, path: str, value: Any, at: str) -> BadColumn:
    """msgspec's message about the value at `path` in the words of rows and columns."""
    for index, name in _STEP.findall(path):
        value = value[int(index)] if index else value[name]
    column = (at + path).lstrip(".")
    if field := re.fullmatch("Object missing required field `(.*)`", problem):
        return BadColumn(f"{column}.{field[1]}".lstrip("."), _missing(value))
    kinds, limit = re.match("Expected `(.*?)`(?:, got .*)?(.*)", problem).groups()  # type: ignore[union-attr]
    wanted = " or ".join(_NAMES.get(kind, kind) for kind in kinds.split(" | "))
    return BadColumn(column, f"must be {wanted}{_LIMITS.get(limit, limit)}, got {shown(value)}")


def _missing(data: Mapping[str, Any]) -> str:
    return f"is missing; the columns are {', '.join(list(data)[:8]) or 'no columns'}"
