"""The rows that training reads: dialogues, preference pairs and prompts, of a stage or a caller's own.

A stage's folder holds train.jsonl and test.jsonl in the published sets' layouts, H4's or UltraChat's; they are read as
the stage wrote them. A caller's rows are mappings in the same layouts or in TRL's; those that cannot be used are kept
apart, with their numbers and reasons.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Generic, TypeVar

import msgspec

from zephyr_lab.core.rows import BadColumn, BadRow, Row, checked, read_as, required, shown, text
from zephyr_lab.data import schemas

TRAIN, TEST = "train", "test"
SHOWN = 3  # unusable rows named in a line
Read = TypeVar("Read")
Messages = list[dict[str, str]]
Prompt = Messages | str


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, which holds the messages up to the user's last; or three texts without turns."""

    prompt: Prompt
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
        unusable = f"; unusable: {'; '.join(named)}" if named else ""
        return f"{len(self.bad)} unusable rows; {account}{unusable}"


def stage_rows(folder: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a stage's split as the stage wrote them. Raises ValueError for a file without rows."""
    with (folder / f"{split}.jsonl").open("rb") as lines:
        rows = [msgspec.json.decode(line) for line in lines]
    if not rows:
        raise ValueError(f"no row in {split}.jsonl of {folder.name}")
    return rows


def dialogue_rows(folder: Path, split: str) -> Split[Messages]:
    """The dialogues of a stage's split. Raises as `stage_rows`."""
    return _whole([row_messages(row) for row in stage_rows(folder, split)])


def pair_rows(folder: Path, split: str) -> Split[Preference]:
    """The pairs of a stage's split, in H4's layout. Raises as `stage_rows`."""
    return _whole([
        Preference(_in_order(row["chosen"][:-1]), row["chosen"][-1]["content"], row["rejected"][-1]["content"])
        for row in stage_rows(folder, split)
    ])  # fmt: skip


def row_messages(row: Mapping[str, Any]) -> Messages:
    """The messages of a stage's row, in any of the layouts of dialogues (`schemas.LAYOUTS`)."""
    if row.get("messages") is not None:
        return _in_order(row["messages"])
    if row.get("conversations") is not None:
        return [{"role": schemas.SPEAKERS[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    texts = row["data"] if row.get("data") is not None else [schemas.question(row), row["output"]]
    return _messages(schemas.by_turns(texts))


def dialogues(rows: Any) -> Split[Talk]:
    """Dialogues of a caller's rows, numbered from 1: mappings (a `datasets.Dataset` has such), or a Split as it is;
    rows of a file (`core.rows.Row`) keep their numbers.

    A row holds messages (any layout of `schemas.LAYOUTS`), a text ({text}), or a prompt and its completion ({prompt,
    completion}: two texts, or messages in each). One data set has one layout, that of its first usable row. Rows
    without an answer or with an empty prompt are bad ones. Raises ValueError where no row is usable.
    """
    return rows if isinstance(rows, Split) else _read(rows, talk, "a dialogue")


def pairs(rows: Any) -> Split[Preference]:
    """Preference pairs of a caller's rows, as `dialogues` reads those.

    A row's `chosen` and `rejected` are two texts after the text `prompt`, two lists of one assistant's message after
    the messages of `prompt`, or two whole dialogues of one prompt. Raises ValueError where no row is usable.
    """
    return rows if isinstance(rows, Split) else _read(rows, _any_preference, "a pair")


def prompts(rows: Any) -> Split[Prompt]:
    """The prompts of rows {"prompt": text} or {"prompt": messages that end with the user's}, as `dialogues` reads.

    Other columns are ignored.

    >>> prompts([{"prompt": "2 + 2 ="}, {"prompt": ""}]).bad[0].problem
    "must be a text that is not blank, got ''"
    """
    return rows if isinstance(rows, Split) else _read(rows, _prompt, "a prompt")


def preference(row: Row) -> Preference:
    """A row of H4's layout or TRL's as a pair. Raises BadColumn."""
    if "chosen" not in row.data:
        raise BadColumn("chosen", "is missing; `zephyr-lab binarise` makes pairs of scored completions")
    read = schemas.scored_prompt(row)
    chosen, rejected = read.completions
    return Preference(_messages(read.messages), chosen.response, rejected.response)


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
        raise TypeError('rows must be a list of rows, got a table; pass table.to_dict("records")')
    if not isinstance(rows, Iterable):
        raise TypeError(f"rows must be a list of rows, got {shown(rows)}")
    return rows


def _whole(rows: list[Read]) -> Split[Read]:
    return Split(rows, [*range(1, len(rows) + 1)], [])


def _in_order(messages: Iterable[Mapping[str, str]]) -> Messages:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _messages(messages: Iterable[schemas.Message]) -> Messages:
    return [{"role": message.role, "content": message.content} for message in messages]


_Layout = tuple[str, str]  # what a row holds, in words, and the column that shows it


def _read(rows: Any, read: Callable[[Row], tuple[Read, _Layout]], what: str) -> Split[Read]:
    """The usable rows of one layout. Raises ValueError where there is none."""
    split: Split[Read] = Split([], [], [])
    first = ""
    for item in checked(_numbered(rows), lambda row: (row, *read(row))):
        if isinstance(item, BadRow):
            split.bad.append(item)
            continue
        row, value, (layout, column) = item
        first = first or layout
        if layout != first:
            problem = f"holds {layout}, but row {split.numbers[0]} holds {first}: one data set has one layout"
            split.bad.append(row.refused(column, problem))
            continue
        split.rows.append(value)
        split.numbers.append(row.number)
    if not split.rows:
        problem = f": {split.bad[0]}" if split.bad else ""
        raise ValueError(f"no row is {what} that can be used ({len(split.bad)} read){problem}")
    return split


def _numbered(rows: Any) -> Iterator[Row | BadRow]:
    for number, row in enumerate(each_row(rows), start=1):
        if isinstance(row, Row | BadRow):  # of a file: it has a number already
            yield row
        elif isinstance(row, Mapping):
            yield Row(number, dict(row))
        else:
            yield BadRow(number, None, f"must be a mapping of columns, got {shown(row)}", str(row))


def talk(row: Row) -> tuple[Talk, _Layout]:
    """A row to learn from, a dialogue or a text without turns, and its layout. Raises BadColumn."""
    data = {column: value for column, value in row.data.items() if value is not None}  # tables fill up with null
    if any(column in data for column in schemas.LAYOUTS):
        dialogue = schemas.dialogue(row)
        messages = _messages(dialogue.messages)
        if not any(message["role"] == "assistant" for message in messages):
            raise BadColumn(dialogue.column, "has no assistant's turn to learn from")
        return _asked(messages, dialogue.column), ("messages", dialogue.column)
    if "prompt" in data or "completion" in data:
        if isinstance(data.get("prompt"), list) or isinstance(data.get("completion"), list):
            before, answer = schemas.answered(row)
            return Answered(_asked(_messages(before), "prompt"), answer), ("messages", "completion")
        return PlainText(text(row.data, "prompt"), _text(row, "completion")), (
            "a prompt and a completion that are texts",
            "prompt",
        )
    if "text" in data:
        return PlainText(None, text(row.data, "text")), ("a text", "text")
    for column in ("text", "completion"):
        if column in row.data:
            text(row.data, column)
    return _messages(schemas.dialogue(row).messages), ("messages", "messages")


def _any_preference(row: Row) -> tuple[Preference, _Layout]:
    """A pair of messages or of texts. Raises BadColumn."""
    is_apart = isinstance(row.data.get("prompt"), list)
    if isinstance(chosen := required(row.data, "chosen"), str) and not is_apart:
        return Preference(text(row.data, "prompt"), chosen, _text(row, "rejected")), ("texts", "chosen")
    pair = preference(row)
    _asked(pair.prompt, "prompt" if is_apart else "chosen")
    return pair, ("messages", "chosen")


def _prompt(row: Row) -> tuple[Prompt, _Layout]:
    """A text, or messages as they are (a template may read further keys of theirs). Raises BadColumn."""
    if isinstance(prompt := required(row.data, "prompt"), list):
        _asked(_messages(schemas.question_messages(prompt, "prompt"))[-1:], "prompt")
        return prompt, ("messages", "prompt")
    return text(row.data, "prompt"), ("texts", "prompt")


def _text(row: Row, column: str) -> str:
    return read_as(required(row.data, column), str, column)


def _asked(messages: Messages, column: str) -> Messages:
    """The messages. Raises BadColumn where a user's turn is blank."""
    if any(message["role"] == "user" and not message["content"].strip() for message in messages):
        raise BadColumn(column, "has an empty prompt: a user's turn is blank")
    return messages
