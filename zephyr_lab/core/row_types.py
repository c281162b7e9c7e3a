"""A row of a user's file, good or bad."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Read = TypeVar("Read")


class BadColumn(ValueError):
    """What is wrong with a row; `column` names the one at fault, None where the row as a whole is."""

    def __init__(self, column: str | None, problem: str):
        super().__init__(problem)
        self.column = column


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used.

    `row` counts from 1: the line of a .jsonl file, else the place in the list or table. `column` is the
    one at fault, None where the row as a whole is. `raw` is the row's text, cut only where it is too long.
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
    """An object of named columns, and its place in the file, counted as in `BadRow`."""

    number: int
    data: dict[str, Any]
    file: str = ""

    def refused(self, column: str | None, problem: str) -> BadRow:
        """The same row as a bad one: what a caller returns who finds a column missing or wrong."""
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
