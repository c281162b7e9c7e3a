"""What a row must hold to be a dialogue, a scored prompt or a preference pair; a wrong one is named by its column.

Dialogues have UltraChat's layout ({id, data: [user, assistant, ...]}), that of its filtered form ({messages: [{role,
content}, ...]}), ShareGPT's ({conversations: [{from, value}, ...]}) or Alpaca's ({instruction, input, output}). Scored
prompts and pairs have UltraFeedback's ({instruction, completions: [...]}), H4's ({prompt, chosen, rejected,
score_chosen, score_rejected}, where chosen and rejected are whole dialogues), or one of TRL's, where the prompt stands
apart: three texts, or messages in each. Nothing here reads or writes a file.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from zephyr_lab.core.columns import BadColumn, is_number, optional_text, required, shown, text
from zephyr_lab.core.row_types import BadRow, Row

Read = TypeVar("Read")
ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
LOWEST_RATING, HIGHEST_RATING = 1, 5
# The annotator was asked for 1 to 10; 0 is let through, because a judge that despises an answer may say so.
LOWEST_SCORE, HIGHEST_SCORE = 0, 10
# ShareGPT's names of the roles
SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
WHOLE = "a whole dialogue"
_NUMBER = re.compile(r"[+-]?\d{1,6}(?:\.\d{1,12})?")


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
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


def checked(rows: Iterable[Row | BadRow], read: Callable[[Row], Read]) -> Iterator[Read | BadRow]:
    """Each row as `read` understands it; one that it refuses (BadColumn) comes back as a bad row."""
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            yield read(row)
        except BadColumn as error:
            yield row.refused(error.column, str(error))


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


def conversation(data: dict[str, Any]) -> tuple[Message, ...]:
    """ShareGPT's turns, {conversations: [{from, value}, ...]}. Raises BadColumn, for a null value too."""
    return _messages(data["conversations"], "conversations", _SHARE_GPT)


def instruction(data: dict[str, Any]) -> tuple[Message, ...]:
    """Alpaca's {instruction, input, output}: the input, where there is one, follows after a blank line.

    Raises BadColumn; a blank output is an empty answer, and no fault of the row.
    """
    asked, given = text(data, "instruction"), optional_text(data, "input")
    question = f"{asked}\n\n{given}" if given and given.strip() else asked
    return Message("user", question), Message("assistant", _text(data, "output", "output"))


def _turns(data: dict[str, Any]) -> tuple[Message, ...]:
    """UltraChat's texts, the user first."""
    turns = data["data"]
    if not isinstance(turns, list) or not turns:
        raise BadColumn("data", f"must be a list with at least one turn, got {_shown_list(turns)}")
    for place, turn in enumerate(turns):
        if not isinstance(turn, str):
            raise BadColumn(f"data[{place}]", f"must be a text, got {shown(turn)}")
    roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
    return tuple(Message(roles[place % 2], turn) for place, turn in enumerate(turns))


def scored_prompt(row: Row) -> ScoredPrompt:
    """A prompt with its scored completions, of UltraFeedback's layout, of H4's or of TRL's. Raises BadColumn."""
    if row.data.get("completions") is None and "chosen" in row.data:
        return _from_pair(row)
    prompt = _text(row.data, "instruction", "instruction")
    completions = required(row.data, "completions")
    if not isinstance(completions, list) or not completions:
        raise BadColumn("completions", f"must be a list with at least one completion, got {_shown_list(completions)}")
    read = tuple(_completion(value, f"completions[{place}]") for place, value in enumerate(completions))
    return ScoredPrompt(prompt, (*_history(row.data), Message("user", prompt)), read, row)


def answered(row: Row) -> tuple[tuple[Message, ...], str]:
    """TRL's prompt and completion as messages: those before the answer, and the answer alone. Raises BadColumn."""
    before, answer = _side(row.data, "completion")
    if not before:
        raise BadColumn("completion", "holds an answer but no prompt")
    return before, answer


def _history(data: dict[str, Any]) -> tuple[Message, ...]:
    """Messages before the instruction: a column of the embedded world, whose second turns need the first."""
    if data.get("history") in (None, []):
        return ()
    history = _messages(data["history"], "history")
    if history[-1].role == "user":
        raise BadColumn("history", "must end with the assistant's answer, for the instruction is the user's next turn")
    return history


def _from_pair(row: Row) -> ScoredPrompt:
    """A row of H4's layout or TRL's as two scored completions, the chosen one first.

    The layouts do not keep the models' names; the sides stand for them, so that twin answers stay a pair.
    """
    (before, chosen), (other, rejected) = (_side(row.data, side) for side in ("chosen", "rejected"))
    kinds = [_kind(row.data[side]) for side in ("chosen", "rejected")]
    if kinds[0] != kinds[1]:
        raise BadColumn("rejected", f"must be {kinds[0]}, as chosen is, got {kinds[1]}")
    if before != other:
        raise BadColumn("rejected", "answers another prompt than chosen: the messages before the answers differ")
    if not before:
        raise BadColumn("chosen", "holds an answer but no prompt")
    scores = [score(row.data.get(f"score_{side}"), f"score_{side}") for side in ("chosen", "rejected")]
    if scores[0] is not None and scores[1] is not None and scores[0] < scores[1]:
        raise BadColumn(
            "score_chosen",
            f"is {scores[0]:g}, below score_rejected {scores[1]:g}: the answers are swapped, or the scores",
        )
    given = row.data.get("prompt")
    completions = (Completion("chosen", chosen, scores[0]), Completion("rejected", rejected, scores[1]))
    return ScoredPrompt(given if isinstance(given, str) else before[-1].content, before, completions, row)


def _side(data: dict[str, Any], side: str) -> tuple[tuple[Message, ...], str]:
    """The messages before one side's answer, and the answer.

    It is a text or an assistant's message whose prompt stands in the column of that name, or a whole dialogue.
    """
    value = required(data, side)
    apart = _prompt(data)
    if _kind(value) != WHOLE:
        if apart is None:
            raise BadColumn("prompt", f"is missing, and {side} is an answer alone: a text, or a list of messages")
        return apart, value if isinstance(value, str) else _text(value[0], "content", f"{side}[0].content")
    if not isinstance(value, list):
        raise BadColumn(side, f"must be a list of messages or a text, got {shown(value)}")
    messages = _messages(value, side)
    if messages[-1].role != "assistant":
        raise BadColumn(side, f"must end with the assistant's answer, but ends with the {messages[-1].role}")
    if isinstance(data.get("prompt"), list) and messages[:-1] != apart:
        raise BadColumn(side, "must be an answer alone or begin with the messages of prompt")
    return messages[:-1], messages[-1].content


def _prompt(data: dict[str, Any]) -> tuple[Message, ...] | None:
    """The messages of a prompt that stands apart; a text is the user's. None where there is none."""
    if not isinstance(data.get("prompt"), list):
        given = optional_text(data, "prompt")
        return None if given is None else (Message("user", given),)
    messages = _messages(data["prompt"], "prompt")
    if messages[-1].role != "user":
        raise BadColumn("prompt", f"must end with the user's turn, but ends with the {messages[-1].role}")
    return messages


def _kind(value: Any) -> str:
    """What one side of a pair is, in words."""
    if isinstance(value, str):
        return "a text"
    one = value[0] if isinstance(value, list) and len(value) == 1 else None
    return "an assistant's message alone" if isinstance(one, dict) and one.get("role") == "assistant" else WHOLE


@dataclass(frozen=True, slots=True)
class _Words:
    """How a layout calls the role and the text of a message, and its roles; `allowed` tells them in a refusal."""

    role: str
    text: str
    roles: Mapping[str, Any]
    allowed: str


_CHAT = _Words(
    "role", "content", {role: role for role in ("system", "user", "assistant")}, "must be system, user or assistant"
)
_SHARE_GPT = _Words("from", "value", SPEAKERS, f"must be spoken by one of {', '.join(SPEAKERS)}")


def _messages(value: Any, column: str, words: _Words = _CHAT) -> tuple[Message, ...]:
    """Messages whose roles alternate; system may stand first. Raises BadColumn."""
    if not isinstance(value, list) or not value:
        raise BadColumn(column, f"must be a list with at least one message, got {_shown_list(value)}")
    messages: list[Message] = []
    for place, item in enumerate(value):
        where = f"{column}[{place}]"
        if not isinstance(item, dict):
            raise BadColumn(where, f"must be an object with {words.role} and {words.text}, got {shown(item)}")
        name, content = (_text(item, key, f"{where}.{key}") for key in (words.role, words.text))
        messages.append(Message(_role(name, words, messages, f"{where}.{words.role}"), content))
    if messages[-1].role == "system":
        raise BadColumn(column, "holds a system message alone")
    return tuple(messages)


def _role(name: str, words: _Words, before: list[Message], where: str) -> Literal["system", "user", "assistant"]:
    if name not in words.roles:
        raise BadColumn(where, f"{words.allowed}, got {shown(name)}")
    role = words.roles[name]
    last = before[-1].role if before else None
    if role == last:
        raise BadColumn(where, f"two turns of one role in a row: {role} follows {role}")
    if role == "system" and before:
        raise BadColumn(where, "a system message may only stand first")
    if role == "assistant" and last != "user":
        raise BadColumn(where, "the assistant speaks before the user")
    return role


def _completion(value: Any, where: str) -> Completion:
    if not isinstance(value, dict):
        raise BadColumn(where, f"must be an object with a response, got {shown(value)}")
    model = value.get("model")
    if model is not None and not isinstance(model, str):
        raise BadColumn(f"{where}.model", f"must be a text, got {shown(model)}")
    return Completion(
        model=model or "",
        response=_text(value, "response", f"{where}.response"),
        overall_score=score(value.get("overall_score"), f"{where}.overall_score"),
        ratings=_ratings(value.get("annotations"), f"{where}.annotations"),
    )


def _ratings(annotations: Any, where: str) -> tuple[float | None, ...]:
    """The four aspect ratings, () where there are no annotations at all."""
    if annotations is None:
        return ()
    if not isinstance(annotations, dict):
        raise BadColumn(where, f"must be an object of aspects, got {shown(annotations)}")
    ratings = []
    for aspect in ASPECTS:
        judged = annotations.get(aspect)
        if judged is None:  # parquet files fill up an aspect that was not annotated
            ratings.append(None)
            continue
        if not isinstance(judged, dict):
            raise BadColumn(f"{where}.{aspect}", f"must be an object with a Rating, got {shown(judged)}")
        column = f"{where}.{aspect}.Rating"
        ratings.append(_between(judged.get("Rating"), column, LOWEST_RATING, HIGHEST_RATING))
    return tuple(ratings)


def score(value: Any, where: str) -> float | None:
    """An overall score, None for N/A. Raises BadColumn."""
    return _between(value, where, LOWEST_SCORE, HIGHEST_SCORE)


def _between(value: Any, where: str, lowest: int, highest: int) -> float | None:
    """A number, or a text that spells one, within the bounds; None for null and for N/A. Raises BadColumn."""
    if value is None or (isinstance(value, str) and value.strip().upper() == "N/A"):
        return None
    if isinstance(value, float) and math.isnan(value):  # an empty number of a table
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if not is_number(value):
        raise BadColumn(where, f"must be a number from {lowest} to {highest} or N/A, got {shown(value)}")
    if not lowest <= value <= highest:
        raise BadColumn(where, f"out of range: must be from {lowest} to {highest} or N/A, got {shown(value)}")
    return float(value)


def _text(data: dict[str, Any], key: str, where: str) -> str:
    """A text, blank or not: an empty answer is a fault of the answer, not of the row. Raises BadColumn."""
    if key not in data:
        raise BadColumn(where, "is missing")
    if not isinstance(data[key], str):
        raise BadColumn(where, f"must be a text, got {shown(data[key])}")
    return data[key]


def _shown_list(value: Any) -> str:
    return "an empty list" if value == [] else shown(value)


LAYOUTS: dict[str, Callable[[dict[str, Any]], tuple[Message, ...]]] = {
    "messages": lambda data: _messages(data["messages"], "messages"),
    "conversations": conversation,
    "data": _turns,
    "output": instruction,
}
