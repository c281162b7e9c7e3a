"""Dialogues with a flag that says whether they belong to the domain: what DAE reads. No model and no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core.columns import BadColumn
from zephyr_lab.core.row_types import BadRow, Row
from zephyr_lab.data import schemas, splits
from zephyr_lab.data.splits import Split, Talk


@dataclass(frozen=True, slots=True)
class Flagged:
    """A dialogue, whether it belongs to the domain, and its row's number in the file (from 1; 0: of no file)."""

    messages: Talk
    is_domain: bool
    number: int = 0


def flagged_rows(folder: Path, split: str) -> Split[Flagged]:
    """The dialogues of a stage's split with their flags. Raises as `splits.stage_rows`, for a missing flag too."""
    rows = splits.stage_rows(folder, split, _flagged)
    return Split(rows, [one.number for one in rows], [])


def flagged(rows: Any) -> Split[Flagged]:
    """Rows as TRL has them (`data.splits.dialogues`), each with a column is_domain more. Raises as `flagged_rows`."""
    if isinstance(rows, Split):
        return rows
    read = [*splits.each_row(rows)]
    bad: list[BadRow] = []
    for number, data in enumerate(read, start=1):
        if isinstance(data, Mapping) and (problem := _no_flag(data.get("is_domain"))):
            bad.append(Row(number, dict(data)).refused("is_domain", problem))
    _require_flags(bad, "the data")
    found = splits.dialogues(read)
    good = [
        Flagged(one, read[number - 1]["is_domain"], number)
        for one, number in zip(found.rows, found.numbers, strict=True)
    ]
    return Split(good, found.numbers, found.bad)


def _require_flags(bad: list[BadRow], where: str) -> None:
    unflagged = [row for row in bad if row.column == "is_domain"]
    if unflagged:
        raise ValueError(
            f"{len(unflagged)} rows of {where} have no domain flag (first: {unflagged[0]}); give each row a column "
            "is_domain, true or false"
        )


def _no_flag(flag: Any) -> str:
    """Why it is no flag; "" where it is one."""
    if isinstance(flag, bool):
        return ""
    return "is missing" if flag is None else f"must be true or false, got {flag!r}"


def _flagged(row: Row) -> Flagged:
    flag = row.data.get("is_domain")
    if problem := _no_flag(flag):
        raise BadColumn("is_domain", problem)
    messages = schemas.dialogue(row).messages
    return Flagged([{"role": message.role, "content": message.content} for message in messages], flag, row.number)
