"""The rows of a data set that training reads: dialogues and preference pairs, of a stage or a caller's own.

A stage's folder holds train.jsonl and test.jsonl in the published sets' layouts, H4's or TRL's, as it wrote them.
A caller's rows are mappings in the same layouts or in TRL's plain ones, which are texts without turns; those that
cannot be used are kept apart, with their numbers and reasons.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Generic, TypeVar

import msgspec

from zephyr_lab.core.rows import BadColumn, BadRow, Row, Rows, checked, read_as, required, shown, text
from zephyr_lab.data import schemas
from zephyr_lab.data.schemas import require_turns

TRAIN, TEST = "train", "test"
SHOWN = 3  # unusable rows told in a line
Read = TypeVar("Read")
Messages = list[dict[str, str]]
Prompt = Messages | str


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, which holds the messages up to the user's last; or three texts without turns."""

    prompt: Messages | str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text without turns, and the prompt before it that is not learned; None where all of it is."""

    prompt: str | None
    completion: str


@dataclass(frozen=True, slots=True)
class Answered:
    """Messages up to the user's last, and the one answer that is learned: no earlier one is."""

    prompt: Messages
    answer: str


Talk = Messages | PlainText | Answered


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
    """The dialogues of a stage's split. Raises as `stage_rows`."""
    return _split(stage_rows(folder, split, lambda row: _messages(schemas.dialogue(row).messages)))


def pair_rows(folder: Path, split: str) -> Split[Preference]:
    """The pairs of a stage's split. Raises as `stage_rows`."""
    return _split(stage_rows(folder, split, preference))


def stage_rows(folder: Path, split: str, read: Callable[[Row], Read]) -> list[Read]:
    """What `read` (of `schemas`) makes of each row of a stage's split.

    Our own stage wrote them and their hash is kept, so nothing is repaired: ValueError for the first row that `read`
    refuses, and for a file without rows.
    """
    with (folder / f"{split}.jsonl").open("rb") as lines:
        rows = (Row(number, msgspec.json.decode(line), f"{split}.jsonl") for number, line in enumerate(lines, start=1))
        parted = Rows.of(rows, read)
    if parted.bad:
        raise ValueError(f"{parted.bad[0]}; the stage wrote other rows than its readers know")
    if not parted.good:
        raise ValueError(f"no row in {split}.jsonl of {folder.name}")
    return parted.good


def dialogues(rows: Any) -> Split[Talk]:
    """Dialogues of a caller's rows, numbered from 1: mappings (a `datasets.Dataset` has such), or a Split as it is.

    A row holds messages (`dialogue_rows` tells the layouts), a text ({text}), or a prompt and its completion ({prompt,
    completion}: two texts, or messages in each). One data set has one layout, that of its first usable row. Rows
    without an answer or with an empty prompt are bad ones. Raises ValueError where no row is usable.
    """
    return rows if isinstance(rows, Split) else _read(rows, _talk, "a dialogue")


def pairs(rows: Any) -> Split[Preference]:
    """Preference pairs of a caller's rows, as `dialogues` reads those.

    A row's `chosen` and `rejected` are two texts after the text `prompt`, two lists of one assistant's message after
    the messages of `prompt`, or two whole dialogues of one prompt. Raises ValueError where no row is usable.
    """
    return rows if isinstance(rows, Split) else _read(rows, _any_preference, "a pair")


def prompts(rows: Any) -> Split[Prompt]:
    """The prompts of rows {"prompt": text} or {"prompt": messages that end with the user's}; other columns are left.

    All are texts or all are messages, as the first usable row has it. Rows that cannot be used are kept apart with
    their numbers, counted from 1. Raises ValueError where none can be used.

    >>> prompts([{"prompt": "2 + 2 ="}, {"prompt": ""}]).bad[0].problem
    "must be a text that is not blank, or messages; got ''"
    """
    if isinstance(rows, Split):
        return rows
    found: Split[Prompt] = Split([], [], [])
    for number, row in enumerate(each_row(rows), start=1):
        problem = _problem(row, found.rows[0] if found.rows else None)
        if problem is None:
            found.rows.append(row["prompt"])
            found.numbers.append(number)
        else:
            data = dict(row) if isinstance(row, Mapping) else {"row": row}
            found.bad.append(Row(number, data).refused("prompt", problem))
    return require_some(found)


def require_some(found: Split[Any]) -> Split[Any]:
    """`found`, or ValueError naming the first rows at fault where no row can be used."""
    if not found.rows:
        raise ValueError(f"no usable rows: {found.line('0 rows used')}")
    return found


def _problem(row: Any, first: Prompt | None) -> str | None:
    """Why the row cannot be used, if so."""
    if not isinstance(row, Mapping) or "prompt" not in row:
        return f"is missing; the row is {row!r:.60}"
    prompt = row["prompt"]
    if isinstance(prompt, str) or not isinstance(prompt, list):
        if not isinstance(prompt, str) or not prompt.strip():
            return f"must be a text that is not blank, or messages; got {prompt!r:.60}"
    else:
        try:
            require_turns(prompt)
        except ValueError as error:
            return str(error)
        if prompt[-1]["role"] != "user":
            return f"must end with a user's turn, got {prompt[-1]['role']!r} last"
        if not prompt[-1]["content"].strip():
            return "the user's last turn is blank"
    if first is not None and type(first) is not type(prompt):
        return f"is {_kind(prompt)} where the rows before have {_kind(first)}: one layout for all rows"
    return None


def _kind(prompt: Prompt) -> str:
    return "a text" if isinstance(prompt, str) else "messages"


def _split(rows: list[Read]) -> Split[Read]:
    return Split(rows, [*range(1, len(rows) + 1)], [])


def preference(row: Row) -> Preference:
    """A row of H4's layout or TRL's as a pair. Raises BadColumn."""
    if "chosen" not in row.data:
        raise BadColumn("chosen", "is missing; `zephyr-lab binarise` makes pairs of scored completions")
    read = schemas.scored_prompt(row)
    chosen, rejected = read.completions
    return Preference(_messages(read.messages), chosen.response, rejected.response)


def _messages(messages: Iterable[schemas.Message]) -> Messages:
    return [{"role": message.role, "content": message.content} for message in messages]


def _read(rows: Any, read: Callable[[Row], Read], what: str) -> Split[Read]:
    """The usable rows of one layout. Raises ValueError where there is none."""
    good: list[Read] = []
    numbers: list[int] = []
    bad: list[BadRow] = []
    first = ""
    for row in checked(_numbered(rows), lambda row: (row, read(row))):
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        source, found = row
        first = first or _layout(found)
        if _layout(found) != first:
            problem = f"holds {_layout(found)}, but row {numbers[0]} holds {first}: one data set has one layout"
            bad.append(source.refused(_layout_column(source, found), problem))
            continue
        good.append(found)
        numbers.append(source.number)
    if not good:
        told = f"{len(bad)} read): {bad[0]}" if bad else "0 read)"
        raise ValueError(f"no row is {what} that can be used ({told}")
    return Split(good, numbers, bad)


def each_row(rows: Any) -> Iterable[Any]:
    """`rows`, or TypeError for what would be read by letters or by columns: one text, a path, one row, a table."""
    if isinstance(rows, str | PurePath):
        raise TypeError(f"rows must be a list of rows, got {shown(str(rows))}; a file is read by datasets.load_dataset")
    if isinstance(rows, Mapping):
        raise TypeError(
            f"rows must be a list of rows, got one mapping of {', '.join(map(str, rows))}: one row goes into a list, "
            "of several splits take one"
        )
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a pandas table is read by its columns
        raise TypeError('rows must be a list of rows, got a table; hand over table.to_dict("records")')
    if not isinstance(rows, Iterable):
        raise TypeError(f"rows must be a list of rows, got {shown(rows)}")
    return rows


def _numbered(rows: Any) -> Iterator[Row | BadRow]:
    for number, row in enumerate(each_row(rows), start=1):
        if isinstance(row, Mapping):
            yield Row(number, dict(row))
        else:
            yield BadRow(number, None, f"must be a mapping of columns, got {shown(row)}", str(row))


def _talk(row: Row) -> Talk:
    """A dialogue, or a text without turns. Raises BadColumn."""
    data = {column: value for column, value in row.data.items() if value is not None}  # tables fill up with null
    if any(column in data for column in schemas.LAYOUTS):
        dialogue = schemas.dialogue(row)
        messages = _messages(dialogue.messages)
        if not any(message["role"] == "assistant" for message in messages):
            raise BadColumn(dialogue.column, "has no assistant's turn to learn from")
        return _asked(messages, dialogue.column)
    if "prompt" in data or "completion" in data:
        if isinstance(data.get("prompt"), list) or isinstance(data.get("completion"), list):
            before, answer = schemas.answered(row)
            return Answered(_asked(_messages(before), "prompt"), answer)
        prompt = text(row.data, "prompt")
        return PlainText(prompt, read_as(required(row.data, "completion"), str, "completion"))
    if "text" in data:
        return PlainText(None, text(row.data, "text"))
    if "text" in row.data or "completion" in row.data:
        text(row.data, "text" if "text" in row.data else "completion")
    return _messages(schemas.dialogue(row).messages)


def _any_preference(row: Row) -> Preference:
    """A pair of messages or of texts. Raises BadColumn."""
    required(row.data, "chosen")
    if all(isinstance(row.data.get(side), str) for side in ("chosen", "rejected")) and not isinstance(
        row.data.get("prompt"), list
    ):
        return Preference(text(row.data, "prompt"), row.data["chosen"], row.data["rejected"])
    if not isinstance(row.data.get("prompt"), list) and isinstance(row.data.get("chosen"), str):
        text(row.data, "prompt")
        read_as(required(row.data, "rejected"), str, "rejected")
    pair = preference(row)
    _asked(pair.prompt, "prompt" if isinstance(row.data.get("prompt"), list) else "chosen")
    return pair


def _asked(messages: Messages, column: str) -> Messages:
    """The messages. Raises BadColumn where a user's turn is blank."""
    if any(message["role"] == "user" and not message["content"].strip() for message in messages):
        raise BadColumn(column, "has an empty prompt: a user's turn is blank")
    return messages


def _layout(found: Any) -> str:
    """What a row is, in words; rows of one data set are all one of them."""
    if isinstance(found, PlainText):
        return "a text" if found.prompt is None else "a prompt and a completion that are texts"
    return "texts" if isinstance(found, Preference) and isinstance(found.prompt, str) else "messages"


def _layout_column(row: Row, found: Any) -> str:
    """The column that shows it."""
    if isinstance(found, PlainText):
        return "text" if found.prompt is None else "prompt"
    if isinstance(found, Preference):
        return "chosen"
    return "completion" if isinstance(found, Answered) else schemas.dialogue(row).column
