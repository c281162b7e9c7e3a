"""AlpacaEval, versions 1 and 2 (weighted): annotations, which of two answers the judge prefers, read, and win rates in
percent with intervals over the instructions (Li et al. 2023; Dubois et al. 2024, arXiv 2404.04475).

Reads alpaca_eval's `annotations.json`, a list of objects with instruction, generator_1 and output_1 (the baseline),
generator_2 and output_2 (the model), annotator and preference. Tables that carry the lengths len_1 and len_2
instead of the outputs serve as well.

The formulas are alpaca_eval's `get_winrate`: win rate = 100 mean(v) over the annotations that could be read, v being
0 to 1; standard error = 100 s / sqrt(n), s with n - 1; the discrete win rate rounds v to 0 or 1 first and leaves
draws at one half; the average length takes every row, unread ones too, and is cut to a whole number.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from zephyr_lab.core.row_files import read_rows
from zephyr_lab.core.rows import BadColumn, BadRow, Text, read_as, shown
from zephyr_lab.scoring.intervals import PERCENT, RESAMPLES, Estimate, share_estimate
from zephyr_lab.scoring.length_control import LengthControlled, length_controlled_win_rate

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


@dataclass(frozen=True, slots=True)
class WinRate:
    """A model's record against the baseline. Rates are in percent, `n` of `win_rate` counts what could be read."""

    win_rate: Estimate
    standard_error: float | None
    nulls: int
    wins: int
    losses: int
    draws: int
    avg_length: int | None
    discrete: Estimate
    length_controlled: LengthControlled
    annotated_twice: int
    baselines: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values; the interval is that of the win rate, `interval_method` what it is, or why there is none."""
        return {
            "win_rate": self.win_rate.value,
            "standard_error": self.standard_error,
            "n": self.win_rate.n,
            "nulls": self.nulls,
            "wins": self.wins,
            "losses": self.losses,
            "draws": self.draws,
            "avg_length": self.avg_length,
            "interval": self.win_rate.interval,
            "interval_method": self.win_rate.method,
            "discrete_win_rate": self.discrete.value,
            "fitted_length_controlled": self.length_controlled.as_json(),
            "annotated_twice": self.annotated_twice,
            "baselines": self.baselines,
        }


def score(annotations: list[Annotation], *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, WinRate]:
    """The record of each model, in the order in which the models first appear."""
    by_model: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        by_model.setdefault(annotation.model, []).append(annotation)
    return {model: _win_rate(rows, seed, resamples) for model, rows in by_model.items()}


def _win_rate(rows: list[Annotation], seed: int, resamples: int) -> WinRate:
    read = [row for row in rows if row.win is not None]
    instructions = [row.instruction for row in read]
    wins = np.array([row.win for row in read], dtype=float)
    # A weighted 0.5 is a draw as well. A weight next to it is none: it is rounded like any other.
    discrete = np.where(wins == DRAW, DRAW, np.round(wins))
    lengths = [row.length for row in rows if row.length is not None]
    return WinRate(
        win_rate=share_estimate(100 * wins, instructions, seed=seed, resamples=resamples, scale=PERCENT),
        standard_error=float(100 * wins.std(ddof=1) / math.sqrt(len(wins))) if len(wins) > 1 else None,
        nulls=len(rows) - len(read),
        wins=int((wins > DRAW).sum()),
        losses=int((wins < DRAW).sum()),
        draws=int((wins == DRAW).sum()),
        avg_length=int(sum(lengths) / len(lengths)) if lengths else None,
        discrete=share_estimate(100 * discrete, instructions, seed=seed, resamples=resamples, scale=PERCENT),
        length_controlled=length_controlled_win_rate(
            [row.win for row in read], [_difference(row) for row in read], instructions
        ),
        annotated_twice=sum(count > 1 for count in Counter(row.instruction for row in rows).values()),
        baselines=tuple(sorted({row.baseline for row in rows if row.baseline})),
    )


def _difference(row: Annotation) -> float:
    """How many characters longer than the baseline's the model's answer is; NaN where the file does not say."""
    if row.length is None or row.baseline_length is None:
        return math.nan
    return float(row.length - row.baseline_length)
