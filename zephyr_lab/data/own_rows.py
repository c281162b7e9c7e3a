"""Rows of one's own, read from JSON lines as the methods take them, with what was left out and why."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from zephyr_lab.data import splits
from zephyr_lab.data.splits import Preference, Split, Talk


@dataclass(frozen=True)
class OwnRows:
    """The usable rows of a file; `rejected` has the number and the reason of each other."""

    source: str
    rows: list[dict[str, Any]]
    dialogues: Split[Talk] | None
    pairs: Split[Preference] | None
    rejected: list[tuple[int, str]]
    counts: pd.DataFrame


def read(source: str | Path) -> OwnRows:
    """The rows of a file of JSON lines. Raises ValueError where none is usable."""
    rows = [msgspec.json.decode(line) for line in Path(source).read_bytes().splitlines() if line.strip()]
    paired = any("chosen" in row for row in rows)
    split = splits.pairs(rows) if paired else splits.dialogues(rows)
    bad = [(one.row, f"{one.column}: {one.problem}") for one in split.bad]
    counts = pd.DataFrame(
        [("rows", len(rows)), ("usable", len(split.rows)), ("left out", len(bad))], columns=["check", "rows"]
    )
    return OwnRows(str(source), rows, None if paired else split, split if paired else None, bad, counts)


def checks(rows: OwnRows) -> pd.DataFrame:
    """Duplicates and equal answers, a line each."""
    usable = (rows.pairs or rows.dialogues).rows
    seen = [repr(one) for one in usable]
    equal = sum(getattr(one, "chosen", 0) == getattr(one, "rejected", 1) for one in usable)
    return pd.DataFrame(
        [("duplicates", len(seen) - len(set(seen))), ("equal answers", equal)], columns=["check", "rows"]
    )
