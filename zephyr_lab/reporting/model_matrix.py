"""Which method is exact on which family of models, refused by name, or absent: benchmarks/model_matrix.json.

A test of all families writes the file; here it is read and counted, nothing else.
"""

from collections import Counter
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
class Family:
    name: str
    model: str  # its class in transformers
    cells: dict[str, Cell]  # by column


@dataclass(frozen=True)
class Matrix:
    versions: dict[str, str]
    columns: tuple[str, ...]
    families: tuple[Family, ...]


def path() -> Path:
    """Where the matrix lies in this checkout, whether or not it does."""
    return paths.project_root() / "benchmarks" / "model_matrix.json"


def read() -> Matrix | None:
    """The committed matrix; None where there is none.

    Raises ValueError for a family that lacks a column, and for a state that is none of exact, refused and absent.
    """
    if not path().is_file():
        return None
    told = files.read_json(path())
    columns = tuple(told["columns"])
    return Matrix(told["versions"], columns, tuple(_family(one, columns) for one in told["families"]))


def counts(matrix: Matrix) -> dict[str, Counter[str]]:
    """How many families have each state, by column."""
    return {column: Counter(family.cells[column].state for family in matrix.families) for column in matrix.columns}


def summary(matrix: Matrix) -> str:
    """`61 families, 240 cells exact, 110 refused, 16 absent`."""
    total = sum(counts(matrix).values(), start=Counter())
    return f"{len(matrix.families)} families, cells: " + ", ".join(f"{total[state]} {state}" for state in STATES)


def _family(told: dict[str, Any], columns: tuple[str, ...]) -> Family:
    where = f"benchmarks/model_matrix.json: {told['family']}"
    missing = [column for column in columns if column not in told["cells"]]
    if missing:
        raise ValueError(f"{where} has no cell {missing[0]!r}; it has: {', '.join(told['cells'])}")
    given = {column: told["cells"][column] for column in columns}
    cells = {column: Cell(one["state"], one["reason"], one["error"]) for column, one in given.items()}
    strange = [cell.state for cell in cells.values() if cell.state not in STATES]
    if strange:
        raise ValueError(f"{where} has state {strange[0]!r}; allowed: {', '.join(STATES)}")
    return Family(told["family"], told["class"], cells)
