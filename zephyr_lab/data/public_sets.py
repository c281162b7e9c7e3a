"""The six public instruction sets of KD at scale, each read into messages: where they lie and how their rows look.

Kothari et al. 2024, arXiv 2406.19112, section 3.2. No torch; the network is used by `data.hub` alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zephyr_lab.core.rows import Row, read_as, required, text
from zephyr_lab.data import schemas
from zephyr_lab.data.schemas import Dialogue, message_list

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class PublicSet:
    """A set on the hub: its id, configuration and split; `messages` reads the data of one row. Raises BadColumn."""

    id: str
    config: str | None
    split: str
    messages: Callable[[Mapping[str, Any]], Messages]

    def dialogue(self, row: Row) -> Dialogue:
        """The row as a dialogue with its messages alone. Raises BadColumn."""
        return schemas.dialogue(Row(row.number, {"messages": self.messages(row.data)}, row.file))


def instruction(data: Mapping[str, Any]) -> Messages:
    """{instruction, input, output}, Alpaca's layout: the input, where there is one, follows after a blank line."""
    text(data, "output")  # of a teaching set no answer may be blank
    return message_list(schemas.instruction(data))


def question_and(answer: str, question: str = "question") -> Callable[[Mapping[str, Any]], Messages]:
    """Reads rows that hold a question and an answer in the columns of these names."""
    return lambda data: _pair(text(data, question), text(data, answer))


def messages(data: Mapping[str, Any]) -> Messages:
    """{messages: [{role, content}]}, as UltraChat 200k has them."""
    return required(data, "messages")


def share_gpt(data: Mapping[str, Any]) -> Messages:
    """{conversations: [{from, value}]} with speakers system, human and gpt."""
    return message_list(schemas.conversation(data))


def texts(data: Mapping[str, Any]) -> Messages:
    """{conversations: [text, text, ...]}, user and assistant by turns; a last question without answer is left out."""
    turns = read_as(required(data, "conversations"), schemas.Texts, "conversations")
    return message_list(schemas.by_turns(turns[: len(turns) - len(turns) % 2] or turns))


SETS = {
    "code_alpaca": PublicSet("sahil2801/CodeAlpaca-20k", None, "train", instruction),
    "gsm8k": PublicSet("openai/gsm8k", "main", "train", question_and("answer")),
    "ultrachat": PublicSet("HuggingFaceH4/ultrachat_200k", None, "train_sft", messages),
    "slim_orca": PublicSet("Open-Orca/SlimOrca", None, "train", share_gpt),
    "metamath": PublicSet("meta-math/MetaMathQA", None, "train", question_and("response", "query")),
    "lima": PublicSet("GAIR/lima", None, "train", texts),
}


def named(name: str) -> PublicSet:
    """The set of that name. Raises ValueError, naming those that are known."""
    if name not in SETS:
        raise ValueError(f"no public set named {name!r}; known: {', '.join(SETS)}")
    return SETS[name]


def _pair(question: str, answer: str) -> Messages:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
