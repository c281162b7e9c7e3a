"""What a row must hold to be a dialogue, a scored prompt or a preference pair; a wrong one is named by its column.

The layouts are those of the published sets: UltraChat ({id, data: [user, assistant, ...]}) and its filtered form
({messages: [{role, content}, ...]}), UltraFeedback ({instruction, completions: [...]}) and H4's binarised form
({prompt, chosen, rejected, score_chosen, score_rejected}). Nothing here reads or writes a file.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from zephyr_lab.core.columns import BadColumn, is_number, optional_text, required, shown
from zephyr_lab.core.row_types import BadRow, Row

Read = TypeVar("Read")
ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
LOWEST_RATING, HIGHEST_RATING = 1, 5
# The annotator was asked for 1 to 10; 0 is let through, because a judge that despises an answer may say so.
LOWEST_SCORE, HIGHEST_SCORE = 0, 10
_NUMBER = re.compile(r"[+-]?\d{1,6}(?:\.\d{1,12})?")


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Messages that alternate between user and assistant, after at most one system message."""

    messages: tuple[Message, ...]
    row: Row

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
    """A dialogue of either layout; `messages` is preferred where a row has both. Raises BadColumn."""
    if row.data.get("messages") is not None:
        return Dialogue(_messages(row.data["messages"], "messages"), row)
    if "data" not in row.data:
        raise BadColumn("messages", "is missing, and so is data: a dialogue has one of them")
    turns = row.data["data"]
    if not isinstance(turns, list) or not turns:
        raise BadColumn("data", f"must be a list with at least one turn, got {_shown_list(turns)}")
    for place, turn in enumerate(turns):
        if not isinstance(turn, str):
            raise BadColumn(f"data[{place}]", f"must be a text, got {shown(turn)}")
    roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
    return Dialogue(tuple(Message(roles[place % 2], turn) for place, turn in enumerate(turns)), row)


def scored_prompt(row: Row) -> ScoredPrompt:
    """A prompt with its scored completions, of UltraFeedback's layout or of H4's. Raises BadColumn."""
    if "completions" not in row.data and "chosen" in row.data:
        return _from_pair(row)
    prompt = _text(row.data, "instruction", "instruction")
    completions = required(row.data, "completions")
    if not isinstance(completions, list) or not completions:
        raise BadColumn("completions", f"must be a list with at least one completion, got {_shown_list(completions)}")
    read = tuple(_completion(value, f"completions[{place}]") for place, value in enumerate(completions))
    return ScoredPrompt(prompt, (*_history(row.data), Message("user", prompt)), read, row)


def _history(data: dict[str, Any]) -> tuple[Message, ...]:
    """Messages before the instruction: a column of the embedded world, whose second turns need the first."""
    if not data.get("history"):
        return ()
    history = _messages(data["history"], "history")
    if history[-1].role == "user":
        raise BadColumn("history", "must end with the assistant's answer, for the instruction is the user's next turn")
    return history


def _from_pair(row: Row) -> ScoredPrompt:
    """A row of H4's layout as two scored completions, the chosen one first.

    The layout does not keep the models' names; the sides stand for them, so that twin answers stay a pair.
    """
    chosen, rejected = (_messages(required(row.data, side), side) for side in ("chosen", "rejected"))
    for side, messages in (("chosen", chosen), ("rejected", rejected)):
        if messages[-1].role != "assistant":
            raise BadColumn(side, f"must end with the assistant's answer, but ends with the {messages[-1].role}")
    if chosen[:-1] != rejected[:-1]:
        raise BadColumn("rejected", "answers another prompt than chosen: the messages before the answers differ")
    if not (before := chosen[:-1]):
        raise BadColumn("chosen", "holds an answer but no prompt")
    given = optional_text(row.data, "prompt")
    completions = tuple(
        Completion(side, messages[-1].content, score(row.data.get(f"score_{side}"), f"score_{side}"))
        for side, messages in (("chosen", chosen), ("rejected", rejected))
    )
    return ScoredPrompt(given if given is not None else before[-1].content, before, completions, row)


def _messages(value: Any, column: str) -> tuple[Message, ...]:
    """Messages whose roles alternate; system may stand first. Raises BadColumn."""
    if not isinstance(value, list) or not value:
        raise BadColumn(column, f"must be a list with at least one message, got {_shown_list(value)}")
    messages: list[Message] = []
    for place, item in enumerate(value):
        where = f"{column}[{place}]"
        if not isinstance(item, dict):
            raise BadColumn(where, f"must be an object with role and content, got {shown(item)}")
        role, content = _text(item, "role", f"{where}.role"), _text(item, "content", f"{where}.content")
        messages.append(Message(_role(role, messages, f"{where}.role"), content))
    if messages[-1].role == "system":
        raise BadColumn(column, "holds a system message alone")
    return tuple(messages)


def _role(role: str, before: list[Message], where: str) -> Literal["system", "user", "assistant"]:
    if role not in ("system", "user", "assistant"):
        raise BadColumn(where, f"must be system, user or assistant, got {shown(role)}")
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
