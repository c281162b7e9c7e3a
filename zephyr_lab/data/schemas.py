"""What a user's row must hold to be a dialogue, a scored prompt or a preference pair; faults are named by column.

Dialogues have UltraChat's layout ({id, data: [user, assistant, ...]}), that of its filtered form ({messages: [{role,
content}, ...]}), ShareGPT's ({conversations: [{from, value}, ...]}) or Alpaca's ({instruction, input, output}). Scored
prompts and pairs have UltraFeedback's ({instruction, completions: [...]}), H4's ({prompt, chosen, rejected,
score_chosen, score_rejected}, where chosen and rejected are whole dialogues), or one of TRL's, where the prompt is a
column of its own: three texts, or messages in each. A judge's table has one completion a row: {instruction, response,
model (or response_source), overall_score (or gpt4_score)}; a list of scores counts with its mean.

No file is read or written here.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec

from zephyr_lab.core.rows import BadColumn, BadRow, Row, Text, checked, read_as, required, shown

Role = Literal["system", "user", "assistant"]
LOWEST_RATING, HIGHEST_RATING = 1, 5
# The annotator was asked for 1 to 10; 0 is accepted, because a judge that despises an answer may give it.
LOWEST_SCORE, HIGHEST_SCORE = 0, 10
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
SPEAKERS: dict[str, Role] = {"human": "user", "gpt": "assistant", **ROLES}  # ShareGPT's names of the roles
PAIRED_COLUMNS = frozenset({"completions", "chosen", "rejected"})
SCORE_COLUMNS = ("overall_score", "gpt4_score")
_NUMBER = re.compile(r"[+-]?\d{1,6}(?:\.\d{1,12})?")
_SOME = msgspec.Meta(min_length=1)


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Messages that alternate between user and assistant, after at most one system message.

    `column` is the one that they were read from: messages, conversations, data, or output.
    """

    messages: tuple[Message, ...]
    row: Row
    column: str = "messages"

    def answers(self) -> Iterator[tuple[int, str]]:
        """Place and text of each assistant message."""
        return ((place, message.content) for place, message in enumerate(self.messages) if message.role == "assistant")


@dataclass(frozen=True, slots=True)
class Completion:
    """One model's answer to a prompt. `overall_score` and each rating are None where the annotator gave N/A or none."""

    model: str
    response: str
    overall_score: float | None
    ratings: tuple[float | None, ...] = ()

    @property
    def mean_rating(self) -> float | None:
        """Mean of the aspect ratings that are there (N/A is skipped); None where there is none."""
        known = [rating for rating in self.ratings if rating is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """A prompt (the messages before the answer, the last one the user's) and its completions in the row's order."""

    prompt: str
    messages: tuple[Message, ...]
    completions: tuple[Completion, ...]
    row: Row


class _Turn(msgspec.Struct):
    role: str
    content: str


class _SpokenTurn(msgspec.Struct):
    role: str = msgspec.field(name="from")
    content: str = msgspec.field(name="value")


class _Instruction(msgspec.Struct):
    instruction: Text
    output: str  # blank or not: an empty answer is not a fault of the row
    input: str | None = None


class _Rated(msgspec.Struct):
    Rating: Any = None


class _Annotations(msgspec.Struct):
    """Parquet files hold null for an aspect that was not annotated."""

    instruction_following: _Rated | None = None
    honesty: _Rated | None = None
    truthfulness: _Rated | None = None
    helpfulness: _Rated | None = None


class _Answer(msgspec.Struct):
    response: str
    model: str | None = None
    overall_score: Any = None
    annotations: _Annotations | None = None


class _Asked(msgspec.Struct):
    """UltraFeedback's row; `history`, the messages before, is a column of the embedded world alone."""

    instruction: str
    completions: Annotated[tuple[_Answer, ...], _SOME]
    history: tuple[_Turn, ...] | None = None


class _OneCompletion(msgspec.Struct):
    instruction: Text
    response: str
    model: str | None = None
    response_source: str | None = None


_Turns = Annotated[tuple[_Turn, ...], _SOME]
_SpokenTurns = Annotated[tuple[_SpokenTurn, ...], _SOME]
Texts = Annotated[tuple[str, ...], _SOME]
ASPECTS = _Annotations.__struct_fields__


def dialogue(row: Row) -> Dialogue:
    """A dialogue of any layout; of several in one row the first in `LAYOUTS` that is not null. Raises BadColumn."""
    columns = [column for column in LAYOUTS if column in row.data]
    if not columns:
        raise BadColumn(
            "messages",
            "is missing, and so is data: a dialogue has messages, conversations (ShareGPT), data (UltraChat) or "
            f"instruction and output (Alpaca); the row has {', '.join(list(row.data)[:8]) or 'no columns'}",
        )
    column = next((column for column in columns if row.data[column] is not None), columns[0])
    return Dialogue(LAYOUTS[column](row.data), row, column)


def messages(data: Mapping[str, Any]) -> tuple[Message, ...]:
    """{messages: [{role, content}, ...]}. Raises BadColumn, for a null value too."""
    return _alternating(read_as(required(data, "messages"), _Turns, "messages"), "messages")


def conversation(data: Mapping[str, Any]) -> tuple[Message, ...]:
    """ShareGPT's turns, {conversations: [{from, value}, ...]}. Raises BadColumn, for a null value too."""
    turns = read_as(required(data, "conversations"), _SpokenTurns, "conversations")
    return _alternating(turns, "conversations", "from", SPEAKERS)


def instruction(data: Mapping[str, Any]) -> tuple[Message, ...]:
    """Alpaca's {instruction, input, output}: an input follows the instruction after a blank line. Raises BadColumn."""
    row = read_as(data, _Instruction)
    return Message("user", question(data)), Message("assistant", row.output)


def question(data: Mapping[str, Any]) -> str:
    """The user's turn of a row in Alpaca's layout."""
    more = data.get("input") or ""
    return f"{data['instruction']}\n\n{more}" if more.strip() else data["instruction"]


def by_turns(texts: Iterable[str]) -> tuple[Message, ...]:
    """UltraChat's texts, the user first."""
    return tuple(Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts))


LAYOUTS: dict[str, Callable[[Mapping[str, Any]], tuple[Message, ...]]] = {
    "messages": messages,
    "conversations": conversation,
    "data": lambda data: by_turns(read_as(data["data"], Texts, "data")),
    "output": instruction,
}


def question_messages(value: Any, column: str) -> tuple[Message, ...]:
    """Messages that end with the user's, or a text as one such message. Raises BadColumn."""
    turns = read_as(value, str | _Turns, column)
    asked = _alternating([_Turn("user", turns)] if isinstance(turns, str) else turns, column)
    if asked[-1].role != "user":
        raise BadColumn(column, f"must end with the user's turn, but ends with the {asked[-1].role}")
    return asked


def scored_prompt(row: Row) -> ScoredPrompt:
    """A prompt with its scored completions, of UltraFeedback's layout, of H4's or of TRL's. Raises BadColumn."""
    if row.data.get("completions") is None and "chosen" in row.data:
        return _from_pair(row)
    asked = read_as(row.data, _Asked)
    history = _alternating(asked.history, "history") if asked.history else ()
    if history and history[-1].role == "user":
        raise BadColumn("history", "must end with the assistant's answer, for the instruction is the user's next turn")
    completions = tuple(_completion(one, f"completions[{place}]") for place, one in enumerate(asked.completions))
    return ScoredPrompt(asked.instruction, (*history, Message("user", asked.instruction)), completions, row)


def answered(row: Row) -> tuple[tuple[Message, ...], str]:
    """TRL's prompt and completion as messages: those before the answer, and the answer alone. Raises BadColumn."""
    before, answer, _ = _side(row.data, "completion")
    return before, answer


def _from_pair(row: Row) -> ScoredPrompt:
    """A row of H4's layout or TRL's as two scored completions, the chosen one first.

    The layouts do not keep the models' names; the sides stand for them, so that twin answers stay a pair.
    """
    (before, chosen, kind), (other, rejected, kind_of_rejected) = (
        _side(row.data, side) for side in ("chosen", "rejected")
    )
    if kind != kind_of_rejected:
        raise BadColumn("rejected", f"must be {kind}, as chosen is, got {kind_of_rejected}")
    if before != other:
        raise BadColumn("rejected", "answers another prompt than chosen: the messages before the answers differ")
    scores = [score(row.data.get(f"score_{side}"), f"score_{side}") for side in ("chosen", "rejected")]
    if scores[0] is not None and scores[1] is not None and scores[0] < scores[1]:
        raise BadColumn(
            "score_chosen",
            f"is {scores[0]:g}, below score_rejected {scores[1]:g}: the answers are swapped, or the scores",
        )
    prompt = row.data.get("prompt")
    completions = (Completion("chosen", chosen, scores[0]), Completion("rejected", rejected, scores[1]))
    return ScoredPrompt(prompt if isinstance(prompt, str) else before[-1].content, before, completions, row)


def _side(data: Mapping[str, Any], side: str) -> tuple[tuple[Message, ...], str, str]:
    """The messages before one side's answer, the answer, and which of three kinds the column is of: a text or an
    assistant's message, whose prompt is in the column of that name, or a whole dialogue."""
    value = read_as(required(data, side), str | _Turns, side)
    prompt = data.get("prompt")
    apart = () if prompt is None else question_messages(prompt, "prompt")
    is_text = isinstance(value, str)
    if is_text or (len(value) == 1 and value[0].role == "assistant"):
        if not apart:
            raise BadColumn("prompt", f"is missing, and {side} is an answer alone: a text, or a list of messages")
        return apart, value if is_text else value[0].content, "a text" if is_text else "an assistant's message alone"
    turns = _alternating(value, side)
    if turns[-1].role != "assistant":
        raise BadColumn(side, f"must end with the assistant's answer, but ends with the {turns[-1].role}")
    if not isinstance(prompt, str) and apart and turns[:-1] != apart:
        raise BadColumn(side, "must be an answer alone or begin with the messages of prompt")
    return turns[:-1], turns[-1].content, "a whole dialogue"


def _alternating(
    turns: Iterable[_Turn | _SpokenTurn], column: str, key: str = "role", names: Mapping[str, Role] = ROLES
) -> tuple[Message, ...]:
    """The turns as messages whose roles alternate; system may come first. Raises BadColumn."""
    read: list[Message] = []
    last = None
    for place, turn in enumerate(turns):
        role = names.get(turn.role)
        if role is None:
            problem = f"must be one of {', '.join(names)}, got {shown(turn.role)}"
        elif role == last:
            problem = f"two turns of one role in a row: {role} follows {role}"
        elif role == "system" and read:
            problem = "only the first message may be a system message"
        elif role == "assistant" and last != "user":
            problem = "the assistant speaks before the user"
        else:
            read.append(Message(role, turn.content))
            last = role
            continue
        raise BadColumn(f"{column}[{place}].{key}", problem)
    if last == "system":
        raise BadColumn(column, "holds a system message alone")
    return tuple(read)


def _completion(answer: _Answer, where: str) -> Completion:
    ratings: tuple[float | None, ...] = ()
    if answer.annotations is not None:
        rated = {aspect: getattr(answer.annotations, aspect) or _Rated() for aspect in ASPECTS}
        ratings = tuple(
            score(one.Rating, f"{where}.annotations.{aspect}.Rating", LOWEST_RATING, HIGHEST_RATING)
            for aspect, one in rated.items()
        )
    return Completion(
        answer.model or "", answer.response, score(answer.overall_score, f"{where}.overall_score"), ratings
    )


def score(value: Any, where: str, lowest: int = LOWEST_SCORE, highest: int = HIGHEST_SCORE) -> float | None:
    """A number within the bounds, or a text that spells one; None for N/A, null and the NaN of a table.

    Raises BadColumn.
    """
    if value is None or (isinstance(value, str) and value.strip().upper() == "N/A"):
        return None
    if isinstance(value, float) and value != value:
        return None
    number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else value
    if not isinstance(number, int | float) or isinstance(number, bool) or not lowest <= number <= highest:
        raise BadColumn(where, f"must be a number from {lowest} to {highest} or N/A, got {shown(value)}")
    return float(number)


def prompt_id(prompt: str, history: Sequence[Message] = ()) -> str:
    """SHA-256 of the prompt's UTF-8 bytes, in hex: how H4's sets name a prompt.

    Their prompts open the dialogue. Where messages come before (`history`), the same words may ask for different
    things, so their texts are hashed too, one a line: our extension.
    """
    text = "\n".join([*(message.content for message in history), prompt])
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def dialogue_row(dialogue: Dialogue, texts: dict[int, str] | None = None) -> dict[str, Any]:
    """The row that a dialogue was read from, every column kept; `texts` replaces messages by their place."""
    texts = texts or {}
    data = dict(dialogue.row.data)
    column = dialogue.column
    if column == "output":
        data[column] = texts.get(1, data[column])
    elif column == "data":
        data[column] = [texts.get(place, turn) for place, turn in enumerate(data[column])]
    else:
        key = "content" if column == "messages" else "value"
        data[column] = [{**turn, key: texts.get(place, turn[key])} for place, turn in enumerate(data[column])]
    return data


def message_list(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"content": message.content, "role": message.role} for message in messages]


def scored_prompts(rows: Iterable[Row | BadRow]) -> Iterator[ScoredPrompt | BadRow]:
    """Scored prompts of any layout; the first row with a column that only one layout has decides which it is.

    Rows of one completion each are grouped by their instruction, in order of first appearance; that takes all rows
    into memory.
    """
    rows = iter(rows)
    first: list[Row | BadRow] = []
    for row in rows:
        first.append(row)
        if isinstance(row, Row) and not row.data.keys().isdisjoint({*PAIRED_COLUMNS, "response"}):
            break
    deciding = first[-1] if first else None
    everything = chain(first, rows)
    if isinstance(deciding, Row) and "response" in deciding.data and deciding.data.keys().isdisjoint(PAIRED_COLUMNS):
        return _grouped(everything)
    return checked(everything, scored_prompt)


def _grouped(rows: Iterable[Row | BadRow]) -> Iterator[ScoredPrompt | BadRow]:
    groups: dict[str, tuple[Row, list[Completion]]] = {}
    for item in checked(rows, _one_completion):
        if isinstance(item, BadRow):
            yield item
        else:
            row, completion = item
            groups.setdefault(row.data["instruction"], (row, []))[1].append(completion)
    for asked, (row, completions) in groups.items():
        yield ScoredPrompt(asked, (Message("user", asked),), tuple(completions), row)


def _one_completion(row: Row) -> tuple[Row, Completion]:
    columns = read_as(row.data, _OneCompletion)
    column = next((column for column in SCORE_COLUMNS if column in row.data), None)
    if column is None:
        raise BadColumn("overall_score", f"is missing, and so are its other names: {', '.join(SCORE_COLUMNS[1:])}")
    model = columns.response_source if columns.model is None else columns.model
    return row, Completion(model or "", columns.response, _mean_score(row.data[column], column))


def _mean_score(value: Any, column: str) -> float | None:
    """The mean of one score or several, N/A left out; None where all are. Raises BadColumn."""
    if isinstance(value, dict):
        raise BadColumn(column, f"must be a score or a list of scores, got {shown(value)}")
    scores = [score(one, column) for one in (value if isinstance(value, list) else [value])]
    known = [one for one in scores if one is not None]
    return sum(known) / len(known) if known else None
