"""Small rows of the published layouts, to be bent by the tests."""

from typing import Any

from zephyr_lab.core.rows import BadRow, Row
from zephyr_lab.data import schemas
from zephyr_lab.data.schemas import Completion, Dialogue, Message, ScoredPrompt


def talk(*turns: str) -> Dialogue:
    """A dialogue of these turns, the user first."""
    return schemas.dialogue(Row(1, {"id": "a", "data": list(turns)}))


def answered(answer: str) -> Dialogue:
    return talk("Tell me.", answer)


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def completion(
    score: Any = None, *, ratings: list[Any] | None = None, response: Any = "text", model: str = "m"
) -> dict:
    made: dict[str, Any] = {"model": model, "response": response}
    if score is not None:
        made["overall_score"] = score
    if ratings is not None:
        made["annotations"] = {
            aspect: {"Rating": rating} for aspect, rating in zip(schemas.ASPECTS, ratings, strict=True)
        }
    return made


def scored(*scores: float | None, instruction: str = "Why?") -> ScoredPrompt:
    """A prompt with one completion a score, of different models."""
    completions = tuple(
        Completion(f"model {i}", f"answer {i}", None if value is None else float(value))
        for i, value in enumerate(scores)
    )
    return ScoredPrompt(instruction, (Message("user", instruction),), completions, Row(1, {"instruction": instruction}))


def refusal(read, data: dict[str, Any]) -> tuple[str | None, str]:
    """Column and problem for which `read` refuses a row."""
    (item,) = schemas.checked([Row(7, data)], read)
    assert isinstance(item, BadRow), item
    assert item.row == 7
    return item.column, item.problem
