"""What a row must hold to be a dialogue, a scored prompt or a preference pair; a wrong one is named by its column.

Dialogues have UltraChat's layout ({id, data: [user, assistant, ...]}), that of its filtered form ({messages: [{role,
content}, ...]}), ShareGPT's ({conversations: [{from, value}, ...]}) or Alpaca's ({instruction, input, output}). Scored
prompts and pairs have UltraFeedback's ({instruction, completions: [...]}), H4's ({prompt, chosen, rejected,
score_chosen, score_rejected}, where chosen and rejected are whole dialogues), or one of TRL's, where the prompt stands
apart: three texts, or messages in each. Nothing here reads or writes a file.

Dialogues and preference pairs as rows of the published column layouts, and the identity of a prompt.

Scored completions, one a row, as judges' tables are: put together to one prompt with all its completions.

Columns: instruction, response, model (or response_source), and a score: overall_score, or gpt4_score; a list of
scores (a judge asked several times) counts with its mean.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec

from zephyr_lab.core.rows import BadColumn, BadRow, Row, Text, read_as, required, shown
from zephyr_lab.core.rows import checked as checked  # goes with every reader below

Role = Literal["system", "user", "assistant"]
LOWEST_RATING, HIGHEST_RATING = 1, 5
# The annotator was asked for 1 to 10; 0 is let through, because a judge that despises an answer may say so.
LOWEST_SCORE, HIGHEST_SCORE = 0, 10
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
SPEAKERS: dict[str, Role] = {"human": "user", "gpt": "assistant", **ROLES}  # ShareGPT's names of the roles
WHOLE = "a whole dialogue"
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
    """A message as rows have it; ShareGPT's names are `_SpokenTurn`'s."""

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
    """Parquet files fill up an aspect that was not annotated with null."""

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


_Turns = Annotated[tuple[_Turn, ...], _SOME]
_SpokenTurns = Annotated[tuple[_SpokenTurn, ...], _SOME]
Texts = Annotated[tuple[str, ...], _SOME]
ASPECTS = _Annotations.__struct_fields__


def dialogue(row: Row) -> Dialogue:
    """A dialogue of any layout; of several in one row the first in `LAYOUTS` that is not null. Raises BadColumn."""
    there = [column for column in LAYOUTS if column in row.data]
    if not there:
        raise BadColumn(
            "messages",
            "is missing, and so is data: a dialogue has messages, conversations (ShareGPT), data (UltraChat) or "
            f"instruction and output (Alpaca); the row has {', '.join(list(row.data)[:8]) or 'no columns'}",
        )
    column = next((column for column in there if row.data[column] is not None), there[0])
    return Dialogue(LAYOUTS[column](row.data), row, column)


def require_turns(dialogue: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError unless the turns are: one system message or none, then user and assistant by turns."""
    if not dialogue:
        raise ValueError("a dialogue needs at least one turn")
    for place, message in enumerate(dialogue):
        if not isinstance(message.get("content"), str):
            raise ValueError(f"turn {place}: content must be text, got {message.get('content')!r}")
        if message.get("role") not in ROLES:
            raise ValueError(f"turn {place}: unknown role {message.get('role')!r}; known: {', '.join(ROLES)}")
    roles = [message["role"] for message in dialogue]
    first = 1 if roles[0] == "system" else 0
    for place, role in enumerate(roles[first:]):
        wanted = ("user", "assistant")[place % 2]
        if role != wanted:
            raise ValueError(f"turn {place + first}: role must be {wanted!r} here, got {role!r}")


def conversation(data: Mapping[str, Any]) -> tuple[Message, ...]:
    """ShareGPT's turns, {conversations: [{from, value}, ...]}. Raises BadColumn, for a null value too."""
    turns = read_as(required(data, "conversations"), _SpokenTurns, "conversations")
    return _alternating(turns, "conversations", "from", SPEAKERS)


def instruction(data: Mapping[str, Any]) -> tuple[Message, ...]:
    """Alpaca's {instruction, input, output}: the input, where there is one, follows after a blank line.

    Raises BadColumn.
    """
    row = read_as(data, _Instruction)
    question = f"{row.instruction}\n\n{row.input}" if row.input and row.input.strip() else row.instruction
    return Message("user", question), Message("assistant", row.output)


def by_turns(texts: Iterable[str]) -> tuple[Message, ...]:
    """UltraChat's texts, the user first."""
    return tuple(Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts))


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
    assistant's message, whose prompt stands in the column of that name, or a whole dialogue."""
    value = read_as(required(data, side), str | _Turns, side)
    prompt = read_as(data.get("prompt"), str | _Turns | None, "prompt")
    apart = _alternating([_Turn("user", prompt)] if isinstance(prompt, str) else prompt or [], "prompt")
    if apart and apart[-1].role != "user":
        raise BadColumn("prompt", f"must end with the user's turn, but ends with the {apart[-1].role}")
    is_text = isinstance(value, str)
    if is_text or (len(value) == 1 and value[0].role == "assistant"):
        if not apart:
            raise BadColumn("prompt", f"is missing, and {side} is an answer alone: a text, or a list of messages")
        return apart, value if is_text else value[0].content, "a text" if is_text else "an assistant's message alone"
    messages = _alternating(value, side)
    if messages[-1].role != "assistant":
        raise BadColumn(side, f"must end with the assistant's answer, but ends with the {messages[-1].role}")
    if not isinstance(prompt, str) and apart and messages[:-1] != apart:
        raise BadColumn(side, "must be an answer alone or begin with the messages of prompt")
    return messages[:-1], messages[-1].content, WHOLE


def _alternating(
    turns: Iterable[_Turn | _SpokenTurn], column: str, key: str = "role", names: Mapping[str, Role] = ROLES
) -> tuple[Message, ...]:
    """The turns as messages whose roles alternate; system may stand first. Raises BadColumn."""
    messages: list[Message] = []
    last = None
    for place, turn in enumerate(turns):
        role = names.get(turn.role)
        problem = ""
        if role is None:
            problem = f"must be one of {', '.join(names)}, got {shown(turn.role)}"
        elif role == last:
            problem = f"two turns of one role in a row: {role} follows {role}"
        elif role == "system" and messages:
            problem = "a system message may only stand first"
        elif role == "assistant" and last != "user":
            problem = "the assistant speaks before the user"
        if role is None or problem:
            raise BadColumn(f"{column}[{place}].{key}", problem)
        messages.append(Message(role, turn.content))
        last = role
    if last == "system":
        raise BadColumn(column, "holds a system message alone")
    return tuple(messages)


def _completion(answer: _Answer, where: str) -> Completion:
    ratings: tuple[float | None, ...] = ()
    if answer.annotations is not None:
        judged = {aspect: getattr(answer.annotations, aspect) or _Rated() for aspect in ASPECTS}
        ratings = tuple(
            score(one.Rating, f"{where}.annotations.{aspect}.Rating", LOWEST_RATING, HIGHEST_RATING)
            for aspect, one in judged.items()
        )
    overall = score(answer.overall_score, f"{where}.overall_score")
    return Completion(answer.model or "", answer.response, overall, ratings)


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


LAYOUTS: dict[str, Callable[[Mapping[str, Any]], tuple[Message, ...]]] = {
    "messages": lambda data: _alternating(read_as(data["messages"], _Turns, "messages"), "messages"),
    "conversations": conversation,
    "data": lambda data: by_turns(read_as(data["data"], Texts, "data")),
    "output": instruction,
}


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


PROMPT_COLUMNS = frozenset({"completions", "chosen", "rejected"})
TELLING_COLUMNS = PROMPT_COLUMNS | {"response"}
SCORE_COLUMNS = ("overall_score", "gpt4_score")


class _Columns(msgspec.Struct):
    instruction: Text
    response: str
    model: str | None = None
    response_source: str | None = None


@dataclass(slots=True)
class _Group:
    row: Row
    completions: list[Completion] = field(default_factory=list)


def scored_prompts(rows: Iterable[Row | BadRow]) -> Iterator[ScoredPrompt | BadRow]:
    """Scored prompts of any layout; which one is told by the first row with a column that only one of them has.

    Rows of one completion each are grouped by their instruction, in order of first appearance; that takes all rows
    into memory.
    """
    rows = iter(rows)
    seen: list[Row | BadRow] = []
    for row in rows:
        seen.append(row)
        if isinstance(row, Row) and not row.data.keys().isdisjoint(TELLING_COLUMNS):
            break
    first = seen[-1] if seen else None
    everything = chain(seen, rows)
    if isinstance(first, Row) and "response" in first.data and first.data.keys().isdisjoint(PROMPT_COLUMNS):
        return _grouped(everything)
    return checked(everything, scored_prompt)


def _grouped(rows: Iterable[Row | BadRow]) -> Iterator[ScoredPrompt | BadRow]:
    groups: dict[str, _Group] = {}
    for item in checked(rows, _one_completion):
        if isinstance(item, BadRow):
            yield item
            continue
        row, completion = item
        groups.setdefault(row.data["instruction"], _Group(row)).completions.append(completion)
    for instruction, group in groups.items():
        yield ScoredPrompt(instruction, (Message("user", instruction),), tuple(group.completions), group.row)


def _one_completion(row: Row) -> tuple[Row, Completion]:
    columns = read_as(row.data, _Columns)
    column = next((column for column in SCORE_COLUMNS if column in row.data), None)
    if column is None:
        raise BadColumn("overall_score", f"is missing, and so are its other names: {', '.join(SCORE_COLUMNS[1:])}")
    model = columns.response_source if columns.model is None else columns.model
    return row, Completion(model or "", columns.response, _mean_score(row.data[column], column))


def _mean_score(value: Any, column: str) -> float | None:
    """The mean of one score or several, N/A left out; None where all are. Raises BadColumn."""
    if isinstance(value, dict):
        raise BadColumn(column, f"must be a score or a list of scores, got {shown(value)}")
    values = value if isinstance(value, list) else [value]
    known = [found for one in values if (found := score(one, column)) is not None]
    return sum(known) / len(known) if known else None
