"""Dialogues and preference pairs as rows of the published column layouts, and the identity of a prompt."""

import hashlib
from collections.abc import Sequence
from typing import Any

from zephyr_lab.data.pairs import Pair
from zephyr_lab.data.schemas import Dialogue, Message


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


def pair_row(pair: Pair) -> dict[str, Any]:
    """A pair in H4's layout; `messages`, for supervised fine-tuning, repeats the chosen ones."""
    chosen, rejected = (
        message_list((*pair.prompt.messages, Message("assistant", pair.prompt.completions[place].response)))
        for place in (pair.chosen, pair.rejected)
    )
    return {
        "prompt": pair.prompt.prompt,
        "prompt_id": prompt_id(pair.prompt.prompt, pair.prompt.messages[:-1]),
        "chosen": chosen,
        "rejected": rejected,
        "messages": chosen,
        "score_chosen": pair.score_chosen,
        "score_rejected": pair.score_rejected,
    }


def message_list(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"content": message.content, "role": message.role} for message in messages]
