"""Rows of one's own, from a file or the hub, as the methods take them: what was read, what was left out, what is odd.

Read are .jsonl, .json, .csv and .parquet (the first three also gzipped), and sets of the hub by their id. The columns
say what a row is: messages, ShareGPT's conversations, UltraChat's data or Alpaca's instruction and output are
dialogues, and so are TRL's prompt and completion; chosen and rejected are a pair, its prompt in `prompt`, in both
sides, in ShareGPT's conversations or in Alpaca's instruction. The checks count and change nothing.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedTokenizerBase

from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.core.rows import BadColumn, BadRow, Row, read_as, required, text
from zephyr_lab.data import chat, released, schemas, splits
from zephyr_lab.data.filters_overlap import Benchmarks, ExactDuplicates, NearDuplicates, comparable, read_questions
from zephyr_lab.data.hub import Hub
from zephyr_lab.data.languages import guess
from zephyr_lab.data.schemas import Dialogue, Message
from zephyr_lab.data.splits import Answered, PlainText, Preference, Split, Talk
from zephyr_lab.models.own_template import Unwritable
from zephyr_lab.world import benchmark

HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?::(?P<split>[\w.]+))?")
FILES = (".jsonl", ".json", ".csv", ".parquet", ".gz")
PAIR_COLUMNS = ("prompt", "chosen", "rejected")
READ = {*PAIR_COLUMNS, *schemas.LAYOUTS, "instruction", "input", "completion", "text"}
FLAGS = ("tag", "label")  # KTO's: false marks an answer that nobody wants
FIRST = 5
TOKENS = "tokens counted"  # a line of the checks


@dataclass(frozen=True)
class OwnRows:
    """The usable rows of a source, dialogues or pairs (the other is None); `bad` are the rows that are left out.

    layout: what the columns were taken for, in words; ignored: columns that nothing reads.
    """

    source: str
    layout: str
    dialogues: Split[Talk] | None
    pairs: Split[Preference] | None
    bad: list[BadRow]
    ignored: tuple[str, ...] = ()

    @property
    def usable(self) -> Split[Any]:
        """The dialogues, or the pairs."""
        return self.pairs or self.dialogues

    @property
    def rejected(self) -> list[tuple[int, str]]:
        """The number of each row that is left out, and why."""
        reasons = [f"column {one.column}: {one.problem}" if one.column else one.problem for one in self.bad]
        return [(one.row, reason) for one, reason in zip(self.bad, reasons, strict=True)]

    @property
    def counts(self) -> pd.DataFrame:
        """check, rows: those read, used and left out."""
        used, out = len(self.usable.rows), len(self.bad)
        return pd.DataFrame([("rows", used + out), ("usable", used), ("left out", out)], columns=["check", "rows"])


def read(source: str | Path) -> OwnRows:
    """The rows of a file, or of a set of the hub: `owner/name`, `owner/name:split` (train, where none is named).

    The first row with known columns decides between dialogues and pairs; rows of the other kind are left out. Raises
    as `iter_rows` and `Hub.rows`, and ValueError where no row is usable.
    """
    rows = _source(source)
    first: list[Row | BadRow] = []
    for row in rows:
        first.append(row)
        if isinstance(row, Row) and not row.data.keys().isdisjoint(READ | {"completions"}):
            break
    deciding = first[-1] if first and isinstance(first[-1], Row) else None
    columns = {} if deciding is None else {name for name, value in deciding.data.items() if value is not None}
    paired = bool({"chosen", "rejected"} & set(columns))
    if "completions" in columns and not paired:
        raise ValueError(f"{source} holds scored completions; `zephyr-lab binarise {source}` makes pairs of them")
    every = chain(first, rows)
    try:
        split = splits.pairs(_each(every, _pair)) if paired else splits.dialogues(_each(every, _wanted))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    ignored = tuple(name for name in columns if name not in READ)
    return OwnRows(
        str(source), _layout(split.rows[0], columns), None if paired else split, split if paired else None, split.bad,
        tuple(sorted(ignored)),
    )  # fmt: skip


def _source(source: str | Path) -> Iterator[Row | BadRow]:
    name = str(source)
    hub = None if Path(name).exists() or name.lower().endswith(FILES) else HUB_ID.fullmatch(name)
    if not hub:
        return iter_rows(Path(name))
    try:
        return Hub(hub["id"]).rows(hub["split"] or "train")
    except ValueError as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}; name a split as {hub['id']}:SPLIT") from error


def _each(rows: Iterable[Row | BadRow], change: Callable[[Row], Row]) -> Iterator[Row | BadRow]:
    for row in rows:
        try:
            yield change(row) if isinstance(row, Row) else row
        except BadColumn as error:
            yield row.refused(error.column, str(error))


def _wanted(row: Row) -> Row:
    """The row. Raises BadColumn for one that is marked as unwanted, as KTO's rows are, and for a row of a pair."""
    for flag in FLAGS:
        if row.data.get(flag) is False:
            raise BadColumn(flag, "is false: the answer is marked as one that nobody wants, and would be learned")
    if row.data.get("chosen") is not None and not any(row.data.get(one) is not None for one in schemas.LAYOUTS):
        raise BadColumn("chosen", "is of a pair, and the first row is a dialogue: one data set has one layout")
    return row


def _pair(row: Row) -> Row:
    """The row in TRL's layout: a prompt out of ShareGPT's conversations or Alpaca's instruction. Raises BadColumn."""
    data = row.data
    if data.get("prompt") is not None:
        return row
    if data.get("conversations") is not None:
        before = schemas.conversation(data)
    elif data.get("instruction") is not None:
        text(data, "instruction")
        before = (Message("user", schemas.question(data)),)
    else:
        return row
    if before[-1].role != "user":
        raise BadColumn("conversations", f"must end with the user's turn, but ends with the {before[-1].role}")
    sides = {side: [{"role": "assistant", "content": _answer(data, side)}] for side in PAIR_COLUMNS[1:]}
    return replace(row, data={**data, "prompt": schemas.message_list(before), **sides})


def _answer(data: dict[str, Any], side: str) -> str:
    """The answer of one side: a text, or ShareGPT's turn or a message of the assistant's."""
    value = required(data, side)
    if not isinstance(value, dict):
        return read_as(value, str, side)
    role, content = ("from", "value") if "from" in value else ("role", "content")
    if schemas.SPEAKERS.get(value.get(role)) != "assistant":
        raise BadColumn(f"{side}.{role}", f"must be the assistant (gpt), got {value.get(role)!r:.40}")
    return read_as(required(value, content), str, f"{side}.{content}")


def _layout(row: Talk | Preference, columns: Iterable[str]) -> str:
    shown = ", ".join(sorted(READ & set(columns)))
    if isinstance(row, Preference):
        return f"pairs of {'plain texts, to which no chat template is put' if _is_plain(row) else 'messages'} ({shown})"
    return f"dialogues, {'plain texts, to which no chat template is put' if _is_plain(row) else 'messages'} ({shown})"


def _is_plain(row: Talk | Preference) -> bool:
    return isinstance(row, PlainText) or (isinstance(row, Preference) and isinstance(row.prompt, str))


def checks(
    rows: OwnRows, tokenizer: PreTrainedTokenizerBase | None = None, *, max_length: int | None = None
) -> pd.DataFrame:
    """What is odd about the usable rows: check, rows (how many) and says, the first of them or what was compared.

    Exact and near duplicates of an earlier row, prompts asked before, equal and empty answers, benchmark questions
    among the prompts (MT-Bench's where the released file is here, else the embedded world's), languages of the prompts
    (`languages.guess`, a guess), and with a tokenizer the tokens of a row, and how many are over `max_length`.
    """
    usable = rows.usable
    turns = [_turns(row) for row in usable.rows]
    talks = [Dialogue(tuple(one), Row(number, {})) for one, number in zip(turns, usable.numbers, strict=True)]
    exact, near = _duplicates(talks)
    lines = [
        _line("exact duplicates", exact, usable.numbers),
        _line("near duplicates", near, usable.numbers),
        _line("prompts asked before", _asked_before(usable.rows), usable.numbers),
        _line("empty answers", [any(not one.strip() for one in _answers(row)) for row in usable.rows], usable.numbers),
    ]
    if rows.pairs is not None:
        equal = [row.chosen == row.rejected for row in usable.rows]
        lines.append(_line("equal answers", equal, usable.numbers))
    asked = [[turn.content for turn in one if turn.role == "user"] for one in turns]
    known, whose = _benchmarks()
    leaked = [any(known.find(question) is not None for question in questions) for questions in asked]
    lines.append(_line("leaked benchmark questions", leaked, usable.numbers, compared=whose))
    spoken = Counter(guess(" ".join(questions)) for questions in asked)
    lines += [(f"prompts in {name}", count, "a guess by script and stop words") for name, count in spoken.most_common()]
    if tokenizer is not None:
        lines += _length_lines(usable, tokenizer, max_length)
    return pd.DataFrame(lines, columns=["check", "rows", "says"])


def longest(checks: pd.DataFrame) -> int:
    """Tokens of the longest row, out of `checks` with a tokenizer; 1 where none was counted."""
    says = checks.loc[checks["check"] == TOKENS, "says"]
    return int(says.iloc[0].rsplit(" ", 1)[1]) if len(says) else 1


def _line(check: str, hits: Sequence[bool], numbers: Sequence[int], *, compared: str = "") -> tuple[str, int, str]:
    found = [number for number, hit in zip(numbers, hits, strict=True) if hit]
    rows = f"rows {', '.join(map(str, found[:FIRST]))}{', ...' if len(found) > FIRST else ''}" if found else ""
    return check, len(found), "; ".join(part for part in (compared, rows) if part)


def _turns(row: Talk | Preference) -> list[Message]:
    """All texts of a row as turns; of a pair the chosen answer, then the rejected one."""
    before = [] if isinstance(row, list) else row.prompt
    if isinstance(before, str):
        before = [{"role": "user", "content": before}]
    spoken = row if isinstance(row, list) else (before or [])
    turns = [Message(turn["role"], turn["content"]) for turn in spoken]
    return turns if isinstance(row, list) else [*turns, *(Message("assistant", one) for one in _answers(row))]


def _answers(row: Talk | Preference) -> list[str]:
    if isinstance(row, Preference):
        return [row.chosen, row.rejected]
    if isinstance(row, list):
        return [turn["content"] for turn in row if turn["role"] == "assistant"]
    return [row.answer if isinstance(row, Answered) else row.completion]


def _duplicates(dialogues: Sequence[Dialogue]) -> tuple[list[bool], list[bool]]:
    """Which dialogues equal an earlier one; and which of the others nearly do."""
    exact, near = ExactDuplicates(), NearDuplicates()
    same, alike = [], []
    for dialogue in dialogues:
        same.append(exact.holds(dialogue))
        alike.append(not same[-1] and near.holds(dialogue))
        if not same[-1]:
            exact.add(dialogue)
            near.add(dialogue)
    return same, alike


def _asked_before(rows: Sequence[Talk | Preference]) -> list[bool]:
    """Which rows have the prompt of an earlier one; a text without turns has none."""
    known: set[str] = set()
    again = []
    for row in rows:
        asked = repr(row[:-1] if isinstance(row, list) else row.prompt)
        again.append(asked in known and asked != "None")
        known.add(asked)
    return again


def _benchmarks() -> tuple[Benchmarks, str]:
    if (path := released.path("mt_bench_questions")) is not None:
        return Benchmarks({"MT-Bench": read_questions(path)}), "of MT-Bench"
    questions = [turn for one in benchmark.mt_bench() for turn in comparable(one.prompts)]
    return Benchmarks({"world": questions}, run=None), "of the embedded world (MT-Bench's file is not here)"


def _length_lines(
    usable: Split[Any], tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> list[tuple[str, int, str]]:
    lengths = _tokens(tokenizer, usable.rows)
    known = sorted(length for length in lengths if length is not None)
    lines = []
    if known:
        middle, most = known[len(known) // 2], known[-1]
        lines.append((TOKENS, len(known), f"median {middle}, longest {most}"))
    unwritable = [length is None for length in lengths]
    if any(unwritable):
        lines.append(_line("not for this chat template", unwritable, usable.numbers))
    if max_length is not None:
        over = [length is not None and length > max_length for length in lengths]
        lines.append(_line(f"over max_length ({max_length} tokens)", over, usable.numbers))
    return lines


def _tokens(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Talk | Preference]) -> list[int | None]:
    """Tokens of each row, of a pair those of the longer side; None where the chat template cannot write it."""
    talks = [_whole_talks(row) for row in rows]
    every = [talk for of_row in talks for talk in of_row]
    # all at once: a tokenizer's own template is looked through for each call, a second for a large one
    written = iter(chat.attempt_dialogues(tokenizer, every) if every else [])
    lengths: list[int | None] = []
    for row, of_row in zip(rows, talks, strict=True):
        if not of_row:
            lengths.append(_text_tokens(tokenizer, row))
            continue
        both = [next(written) for _ in of_row]
        lengths.append(None if any(isinstance(one, Unwritable) for one in both) else max(len(one.ids) for one in both))
    return lengths


def _whole_talks(row: Talk | Preference) -> list[list[dict[str, str]]]:
    """The row's messages with its answer, of a pair with each; none for plain texts."""
    if isinstance(row, list):
        return [row]
    if isinstance(row, PlainText) or isinstance(row.prompt, str):
        return []
    return [[*row.prompt, {"role": "assistant", "content": one}] for one in _answers(row)]


def _text_tokens(tokenizer: PreTrainedTokenizerBase, row: PlainText | Preference) -> int:
    if isinstance(row, PlainText):
        return len(chat.text_ids(tokenizer, (row.prompt or "") + row.completion))
    prompt, sides = chat.continued_ids(tokenizer, row.prompt, [row.chosen, row.rejected])
    return len(prompt) + max(map(len, sides))
