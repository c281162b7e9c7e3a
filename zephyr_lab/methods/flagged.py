"""Dialogues with a flag that says whether they belong to the domain: what DAE reads. No model and no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core.columns import BadColumn
from zephyr_lab.core.row_types import BadRow, Row
from zephyr_lab.data import schemas
from zephyr_lab.data.sources import Folder, usable
from zephyr_lab.data.splits import Messages, Split


@dataclass(frozen=True, slots=True)
class Flagged:
    """A dialogue, whether it belongs to the domain, and its row's number in the file (from 1; 0: of no file)."""

    messages: Messages
    is_domain: bool
    number: int = 0


def flagged_rows(folder: Path, split: str) -> Split[Flagged]:
    """The dialogues of a split with their flags.

    Raises ValueError where none can be used, and for a row without a flag: its teacher would be a guess.
    """
    good, bad = usable(Folder(folder), split, _flagged)
    return _all_flagged(good, bad, split)


def flagged(rows: Split[Flagged] | Iterable[Mapping[str, Any]]) -> Split[Flagged]:
    """Rows as TRL has them (`data.splits.dialogues`), each with a column is_domain more. Raises as `flagged_rows`."""
    if isinstance(rows, Split):
        return rows
    good: list[Flagged] = []
    bad: list[BadRow] = []
    for number, data in enumerate(rows, start=1):
        row = Row(number, dict(data))
        try:
            good.append(_flagged(row))
        except BadColumn as fault:
            bad.append(row.refused(fault.column, str(fault)))
    if not good and not any(row.column == "is_domain" for row in bad):
        raise ValueError(f"no usable row of {len(bad)}{f': {bad[0]}' if bad else ''}")
    return _all_flagged(good, bad, "the data")


def _all_flagged(good: list[Flagged], bad: list[BadRow], where: str) -> Split[Flagged]:
    unflagged = [row for row in bad if row.column == "is_domain"]
    if unflagged:
        raise ValueError(
            f"{len(unflagged)} rows of {where} have no domain flag (first: {unflagged[0]}); give each row a column "
            "is_domain, true or false"
        )
    return Split(good, [one.number for one in good], bad)


def _flagged(row: Row) -> Flagged:
    flag = row.data.get("is_domain")
    if not isinstance(flag, bool):
        raise BadColumn("is_domain", "is missing" if flag is None else f"must be true or false, got {flag!r}")
    messages = schemas.dialogue(row).messages
    return Flagged([{"role": message.role, "content": message.content} for message in messages], flag, row.number)
