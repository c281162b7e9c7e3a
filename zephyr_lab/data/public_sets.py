"""The six public instruction sets of KD at scale, each read into messages: their ids on the hub and their layouts.

Kothari et al. 2024, arXiv 2406.19112, section 3.2. No torch; the network is used by `data.hub` alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zephyr_lab.core.rows import Row, read_as, required, text
from zephyr_lab.data import schemas
from zephyr_lab.data.schemas import Dialogue, Message

Read = Callable[[Mapping[str, Any]], tuple[Message, ...]]


@dataclass(frozen=True)
class PublicSet:
    """A set on the hub: its id, configuration and split; `read` makes messages of a row's data, or raises BadColumn."""

    id: str
    config: str | None
    split: str
    read: Read

    def dialogue(self, row: Row) -> Dialogue:
        """The row as a dialogue. Raises BadColumn."""
        return Dialogue(self.read(row.data), row)


def instruction(data: Mapping[str, Any]) -> tuple[Message, ...]:
    """Alpaca's layout; in a teaching set no answer may be blank."""
    text(data, "output")
    return schemas.instruction(data)


def question_and(answer: str, question: str = "question") -> Read:
    """Reads rows that hold a question and an answer in the columns of these names."""
    return lambda data: schemas.by_turns([text(data, question), text(data, answer)])


def texts(data: Mapping[str, Any]) -> tuple[Message, ...]:
    """{conversations: [text, text, ...]}, user and assistant by turns; a last question without answer is left out."""
    turns = read_as(required(data, "conversations"), schemas.Texts, "conversations")
    return schemas.by_turns(turns[: len(turns) - len(turns) % 2] or turns)


SETS = {
    "code_alpaca": PublicSet("sahil2801/CodeAlpaca-20k", None, "train", instruction),
    "gsm8k": PublicSet("openai/gsm8k", "main", "train", question_and("answer")),
    "ultrachat": PublicSet("HuggingFaceH4/ultrachat_200k", None, "train_sft", schemas.messages),
    "slim_orca": PublicSet("Open-Orca/SlimOrca", None, "train", schemas.conversation),
    "metamath": PublicSet("meta-math/MetaMathQA", None, "train", question_and("response", "query")),
    "lima": PublicSet("GAIR/lima", None, "train", texts),
}


def named(name: str) -> PublicSet:
    """The set of that name. Raises ValueError, naming those that are known."""
    if name not in SETS:
        raise ValueError(f"no public set named {name!r}; known: {', '.join(SETS)}")
    return SETS[name]
