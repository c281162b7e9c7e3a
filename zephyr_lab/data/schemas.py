"""What a row must hold to be a dialogue, a scored prompt or a preference pair; a wrong one is named by its column.

Dialogues have UltraChat's layout ({id, data: [user, assistant, ...]}), that of its filtered form ({messages: [{role,
content}, ...]}), ShareGPT's ({conversations: [{from, value}, ...]}) or Alpaca's ({instruction, input, output}). Scored
prompts and pairs have UltraFeedback's ({instruction, completions: [...]}), H4's ({prompt, chosen, rejected,
score_chosen, score_rejected}, where chosen and rejected are whole dialogues), or one of TRL's, where the prompt stands
apart: three texts, or messages in each. Nothing here reads or writes a file.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from zephyr_lab.core.columns import BadColumn, Text, read_as, required, shown
from zephyr_lab.core.row_types import Row
from zephyr_lab.core.row_types import checked as checked  # goes with every reader below

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
