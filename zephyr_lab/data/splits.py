"""The rows of a data set that training reads: dialogues and preference pairs of one split of a folder.

A folder holds train.jsonl and test.jsonl in the published sets' layouts, H4's or TRL's. Rows that cannot be used are
kept apart, with their numbers and reasons.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from zephyr_lab.core.columns import BadColumn
from zephyr_lab.core.row_types import BadRow, Row
from zephyr_lab.data import schemas
from zephyr_lab.data.sources import Folder, usable

TRAIN, TEST = "train", "test"
SHOWN = 3  # unusable rows told in a line
Read = TypeVar("Read")
Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, which holds the messages up to the user's last."""

    prompt: Messages
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Split(Generic[Read]):
    """The usable rows of a split and their numbers in its file, counted from 1; and those that cannot be used."""

    rows: list[Read]
    numbers: list[int]
    bad: list[BadRow]

    def line(self, account: str) -> str:
        """For people: `1 unusable rows; <account>; unusable: row 3, column data[1]: must be a text, got None`."""
        named = [str(row) for row in self.bad[:SHOWN]] + ["..."] * (len(self.bad) > SHOWN)
        return "; ".join(
            [f"{len(self.bad)} unusable rows", account, *(["unusable: " + "; ".join(named)] * bool(named))]
        )


def dialogue_rows(folder: Path, split: str) -> Split[Messages]:
    """The dialogues of a split. Raises ValueError where no row is one."""
    return _split(folder, split, lambda row: _messages(schemas.dialogue(row).messages))


def pair_rows(folder: Path, split: str) -> Split[Preference]:
    """The pairs of a split, in H4's layout or TRL's. Raises ValueError where no row is one."""
    return _split(folder, split, _preference)


def dialogues(rows: Split[Messages] | Iterable[Mapping[str, Any]]) -> Split[Messages]:
    """Rows in memory as a split: dictionaries in any layout of `schemas.dialogue`, numbered from 1; a split as it is.

    Raises ValueError where no row is a dialogue.
    """
    if isinstance(rows, Split):
        return rows
    good: list[Messages] = []
    numbers: list[int] = []
    bad: list[BadRow] = []
    for number, data in enumerate(rows, start=1):
        row = Row(number, dict(data))
        try:
            good.append(_messages(schemas.dialogue(row).messages))
            numbers.append(number)
        except BadColumn as fault:
            bad.append(row.refused(fault.column, str(fault)))
    if not good:
        raise ValueError(f"no usable row of {len(bad)}{f': {bad[0]}' if bad else ''}")
    return Split(good, numbers, bad)


def read_dialogues(folder: Path, split: str) -> tuple[list[Messages], int]:
    """The dialogues of a split, and how many rows could not be used. Raises ValueError where none can."""
    found = dialogue_rows(folder, split)
    return found.rows, len(found.bad)


def read_pairs(folder: Path, split: str) -> tuple[list[Preference], int]:
    """The pairs of a split, and how many rows could not be used. Raises ValueError where none can."""
    found = pair_rows(folder, split)
    return found.rows, len(found.bad)


def _split(folder: Path, split: str, read: Callable[[Row], Read]) -> Split[Read]:
    good, bad = usable(Folder(folder), split, lambda row: (row.number, read(row)))
    return Split([read for _, read in good], [number for number, _ in good], bad)


def _preference(row: Row) -> Preference:
    """A row of H4's layout or TRL's as a pair. Raises BadColumn."""
    if "chosen" not in row.data:
        raise BadColumn("chosen", "is missing; `zephyr-lab binarise` makes pairs of scored completions")
    read = schemas.scored_prompt(row)
    chosen, rejected = read.completions
    return Preference(_messages(read.messages), chosen.response, rejected.response)


def _messages(messages: Iterable[schemas.Message]) -> Messages:
    return [{"role": message.role, "content": message.content} for message in messages]
