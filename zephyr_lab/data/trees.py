"""Message trees with human ranks (OpenAssistant's export): dialogues along their branches, preferences among replies.

A tree is a row {message_tree_id, prompt: {text, role, rank, replies: [...]}}; of the ranked replies to a message,
rank 0 is the best. Ranks order replies, but do not say by how much.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from zephyr_lab.core.columns import BadColumn, required, shown
from zephyr_lab.core.row_types import Row
from zephyr_lab.data.schemas import Message

_ROLES = {"prompter": "user", "assistant": "assistant"}
_DEEPEST = 50  # messages on a branch; the export's longest has five


@dataclass(frozen=True, slots=True)
class Node:
    """A message, its rank among its siblings (None where nobody ranked it), and the replies to it."""

    message: Message
    rank: int | None
    replies: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class RankedReplies:
    """The messages up to a prompt, and at least two ranked replies to it, best first."""

    messages: tuple[Message, ...]
    replies: tuple[str, ...]

    def pairs(self) -> list[tuple[str, str]]:
        """Every (better, worse) couple."""
        return list(combinations(self.replies, 2))


def tree(row: Row) -> Node:
    """The root of a row's tree. Raises BadColumn for a message without text, of a wrong role, or out of turn."""
    return _node(required(row.data, "prompt"), "prompt", "user", _DEEPEST)


def nodes(root: Node) -> Iterator[Node]:
    yield root
    for reply in root.replies:
        yield from nodes(reply)


def branches(root: Node) -> Iterator[tuple[Message, ...]]:
    """The messages from the root to each leaf."""
    if not root.replies:
        yield (root.message,)
    for reply in root.replies:
        for rest in branches(reply):
            yield (root.message, *rest)


def ranked(root: Node, before: tuple[Message, ...] = ()) -> Iterator[RankedReplies]:
    """Every user message with two or more ranked replies, in the tree's order."""
    messages = (*before, root.message)
    found = sorted((reply for reply in root.replies if reply.rank is not None), key=lambda reply: reply.rank or 0)
    if root.message.role == "user" and len(found) >= 2:
        yield RankedReplies(messages, tuple(reply.message.content for reply in found))
    for reply in root.replies:
        yield from ranked(reply, messages)


def _node(value: Any, where: str, role: str, left: int) -> Node:
    if not isinstance(value, dict):
        raise BadColumn(where, f"must be a message with text and replies, got {shown(value)}")
    if not left:
        raise BadColumn(where, f"the branch is longer than {_DEEPEST} messages")
    text, spoken, rank, replies = (value.get(name) for name in ("text", "role", "rank", "replies"))
    if not isinstance(text, str):
        raise BadColumn(f"{where}.text", f"must be a text, got {shown(text)}")
    if _ROLES.get(spoken) != role if isinstance(spoken, str) else True:
        wanted = next(name for name, known in _ROLES.items() if known == role)
        raise BadColumn(f"{where}.role", f"must be {wanted} here, got {shown(spoken)}")
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 0):
        raise BadColumn(f"{where}.rank", f"must be a whole number from 0 or null, got {shown(rank)}")
    if replies is not None and not isinstance(replies, list):
        raise BadColumn(f"{where}.replies", f"must be a list, got {shown(replies)}")
    other = "assistant" if role == "user" else "user"
    below = tuple(
        _node(reply, f"{where}.replies[{place}]", other, left - 1) for place, reply in enumerate(replies or ())
    )
    return Node(Message("user" if role == "user" else "assistant", text), rank, below)
