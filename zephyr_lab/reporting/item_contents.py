"""What an item really holds: kinds of number that its tables have, and what its picture must show.

An item that lacks something is partial; each function returns what is lacking -> why, as the ledger tells it.
"""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

SCORES = {"row", "metric", "kind", "value"}  # columns of a table of scores; other tables name no kind of number


def absent_kinds(present: Iterable[str], written: Iterable[Path]) -> dict[str, str]:
    """Kinds of `present` that none of the tables of scores among `written` has a number of; {} where there is no such
    table."""
    tables = {path.name: found for path in written if (found := _kinds(path)) is not None}
    if not tables:
        return {}
    there = set().union(*tables.values())
    return {kind: f"{', '.join(tables)} holds no number of this kind" for kind in present if kind not in there}


def unheld(holds: Mapping[str, bool]) -> dict[str, str]:
    """What an item must hold and does not."""
    return {what: "what was made here does not show it" for what, holds_it in holds.items() if not holds_it}


def _kinds(path: Path) -> set[str] | None:
    """Kinds with a finite number in a table of scores; None for any other file."""
    if path.suffix != ".csv":
        return None
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not set(reader.fieldnames or ()) >= SCORES:
            return None
        return {row["kind"] for row in reader if row["value"] and math.isfinite(float(row["value"]))}
