"""Which method is exact on which family of models and kind of adapter, refused by name, or absent.

A test of all families writes benchmarks/model_matrix.json; here it is read and counted, nothing else.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths

STATES = ("exact", "refused", "absent")


@dataclass(frozen=True)
class Cell:
    """One method on one family. error: the largest difference that was measured, None where nothing ran."""

    state: str
    reason: str
    error: float | None


@dataclass(frozen=True)
class Row:
    """A family of models, with its class in transformers, or a kind of adapter of peft's, without."""

    name: str
    model: str
    cells: dict[str, Cell]  # by column


@dataclass(frozen=True)
class Part:
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def counts(self) -> dict[str, Counter[str]]:
        """How many rows have each state, by column."""
        return {column: Counter(row.cells[column].state for row in self.rows) for column in self.columns}


@dataclass(frozen=True)
class Matrix:
    versions: dict[str, str]
    families: Part
    adapters: Part


def path() -> Path:
    """Where the matrix lies in this checkout, whether or not it does."""
    return paths.project_root() / "benchmarks" / "model_matrix.json"


def read() -> Matrix | None:
    """The committed matrix; None where there is none.

    Raises ValueError for a row that lacks a column, and for a state that is none of exact, refused and absent.
    """
    if not path().is_file():
        return None
    told = files.read_json(path())
    families = _part(told["columns"], told["families"], "family")
    adapters = _part(told.get("adapter_columns", []), told.get("adapters", []), "adapter")
    return Matrix(told["versions"], families, adapters)


def summary(matrix: Matrix) -> str:
    """`61 families, 12 kinds of adapter, cells: 240 exact, 110 refused, 16 absent`."""
    parts = (matrix.families, matrix.adapters)
    total = sum((count for part in parts for count in part.counts().values()), start=Counter())
    kinds = len(matrix.adapters.rows)
    adapters = f", {kinds} kind{'s' if kinds != 1 else ''} of adapter" if kinds else ""
    states = ", ".join(f"{total[state]} {state}" for state in STATES)
    return f"{len(matrix.families.rows)} families{adapters}, cells: {states}"


def _part(columns: Sequence[str], told: Sequence[Mapping[str, Any]], key: str) -> Part:
    return Part(tuple(columns), tuple(_row(one, one[key], columns) for one in told))


def _row(told: Mapping[str, Any], name: str, columns: Sequence[str]) -> Row:
    where = f"benchmarks/model_matrix.json: {name}"
    missing = [column for column in columns if column not in told["cells"]]
    if missing:
        raise ValueError(f"{where} has no cell {missing[0]!r}; it has: {', '.join(told['cells'])}")
    given = {column: told["cells"][column] for column in columns}
    cells = {column: Cell(one["state"], one["reason"], one["error"]) for column, one in given.items()}
    strange = [cell.state for cell in cells.values() if cell.state not in STATES]
    if strange:
        raise ValueError(f"{where} has state {strange[0]!r}; allowed: {', '.join(STATES)}")
    return Row(name, told.get("class", ""), cells)
