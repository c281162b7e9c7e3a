"""AlpacaEval annotations: which of two answers the judge prefers (Li et al. 2023; Dubois et al. 2024, 2404.04475).

Reads alpaca_eval's `annotations.json`, a list of objects with instruction, generator_1 and output_1 (the baseline),
generator_2 and output_2 (the model), annotator and preference. Tables that carry the lengths len_1 and len_2
instead of the outputs serve as well.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from zephyr_lab.core.row_files import read_rows
from zephyr_lab.core.rows import BadColumn, BadRow, Text, read_as, shown

DRAW = 0.5


@dataclass(frozen=True, slots=True)
class Annotation:
    """One comparison. `win` is 1 where the model wins, 0 where the baseline does, 0.5 for a draw, in between where
    the judge's probabilities are kept (version 2), None where its answer could not be read. Lengths are in
    characters, None where the file holds none."""

    model: str
    instruction: str
    win: float | None
    length: int | None = None
    baseline_length: int | None = None
    baseline: str = ""


@dataclass(frozen=True, slots=True)
class Annotated:
    """What a file of annotations holds: the annotations, and the rows that cannot be read."""

    annotations: list[Annotation]
    bad: list[BadRow]


def read(path: Path) -> Annotated:
    """The annotations in a .json, .jsonl or .parquet file. Raises as `read_rows` does."""
    rows = read_rows(path, lambda row: annotation(row.data, row.number))
    return Annotated(rows.good, rows.bad)


class _Columns(msgspec.Struct):
    generator_2: Text
    preference: float | None
    instruction: str | None = None
    generator_1: str | None = None
    output_1: Any = None  # read only where there is no length
    output_2: Any = None
    len_1: float | None = None
    len_2: float | None = None


def annotation(data: dict[str, Any], row: int = 0) -> Annotation:
    """The annotation in a row's columns; raises BadColumn.

    An instruction is what the bootstrap draws; a row without one (its number is `row`) counts as one of its own.
    """
    columns = read_as(data, _Columns)
    return Annotation(
        model=columns.generator_2,
        instruction=columns.instruction or f"row {row}",
        win=_win(columns.preference),
        length=_length(columns.len_2, columns.output_2, "2"),
        baseline_length=_length(columns.len_1, columns.output_1, "1"),
        baseline=columns.generator_1 or "",
    )


def _win(preference: float | None) -> float | None:
    """preference - 1. alpaca_eval codes a draw 1.5, older files 0; null means that the judge could not be read."""
    if preference is None:
        return None
    if preference == 0:
        return DRAW
    if not 1 <= preference <= 2:
        allowed = "1 (baseline) to 2 (model), 0 for a draw, or null"
        raise BadColumn("preference", f"must be {allowed}, got {shown(preference)}")
    return preference - 1


def _length(length: float | None, output: Any, side: str) -> int | None:
    """The length of an output in characters, from its column where there is one."""
    if length is None:
        output = read_as(output, str | None, f"output_{side}")
        return None if output is None else len(output)
    if not (length >= 0 and length.is_integer()):
        raise BadColumn(f"len_{side}", f"must be 0 or more whole characters, got {shown(length)}")
    return int(length)
