"""Dialogues with a flag that says whether they belong to the domain: what DAE reads. No model and no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core.rows import Row, Rows, read_as, required
from zephyr_lab.data import splits
from zephyr_lab.data.splits import Split, Talk


@dataclass(frozen=True, slots=True)
class Flagged:
    """A dialogue, whether it belongs to the domain, and its row's number in the file (from 1; 0: of no file)."""

    messages: Talk
    is_domain: bool
    number: int = 0


def flagged_rows(folder: Path, split: str) -> Split[Flagged]:
    """The dialogues of a stage's split with their flags. Raises ValueError for a row without a flag."""
    rows = splits.stage_rows(folder, split)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("is_domain"), bool):
            raise ValueError(
                f"{split}.jsonl row {number} has no is_domain, true or false; domain alignment wants flagged dialogues"
            )
    read = [Flagged(splits.row_messages(row), row["is_domain"], number) for number, row in enumerate(rows, start=1)]
    return Split(read, [one.number for one in read], [])


def flagged(rows: Any) -> Split[Flagged]:
    """Rows as TRL has them (`data.splits.dialogues`), each with a column is_domain more. Raises as `flagged_rows`."""
    if isinstance(rows, Split):
        return rows
    read = [*splits.each_row(rows)]
    flags = Rows.of(
        (Row(place, dict(one)) for place, one in enumerate(read, start=1) if isinstance(one, Mapping)), _flag
    )
    if flags.bad:
        raise ValueError(
            f"{len(flags.bad)} rows of the data have no domain flag (first: {flags.bad[0]}); give each row a column "
            "is_domain, true or false"
        )
    talks = splits.dialogues(read)
    good = [
        Flagged(one, read[number - 1]["is_domain"], number)
        for one, number in zip(talks.rows, talks.numbers, strict=True)
    ]
    return Split(good, talks.numbers, talks.bad)


def _flag(row: Row) -> bool:
    return read_as(required(row.data, "is_domain"), bool, "is_domain")
