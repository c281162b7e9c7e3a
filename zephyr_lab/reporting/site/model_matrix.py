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
    """Where the matrix is in this checkout, if there is one."""
    return paths.project_root() / "benchmarks" / "model_matrix.json"


def read() -> Matrix | None:
    """The committed matrix; None where there is none."""
    if not path().is_file():
        return None
    record = files.read_json(path())
    families = _part(record["columns"], record["families"], "family")
    adapters = _part(record.get("adapter_columns", []), record.get("adapters", []), "adapter")
    return Matrix(record["versions"], families, adapters)


def summary(matrix: Matrix) -> str:
    """`61 families, 12 kinds of adapter, cells: 240 exact, 110 refused, 16 absent`."""
    parts = (matrix.families, matrix.adapters)
    total = sum((count for part in parts for count in part.counts().values()), start=Counter())
    kinds = len(matrix.adapters.rows)
    adapters = f", {kinds} kind{'s' if kinds != 1 else ''} of adapter" if kinds else ""
    states = ", ".join(f"{total[state]} {state}" for state in STATES)
    return f"{len(matrix.families.rows)} families{adapters}, cells: {states}"


def _part(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], key: str) -> Part:
    def cells(row: Mapping[str, Any]) -> dict[str, Cell]:
        measured = {column: row["cells"][column] for column in columns}
        return {column: Cell(one["state"], one["reason"], one["error"]) for column, one in measured.items()}

    return Part(tuple(columns), tuple(Row(row[key], row.get("class", ""), cells(row)) for row in rows))
