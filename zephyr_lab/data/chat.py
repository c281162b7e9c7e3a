"""Dialogues as token ids: Zephyr's chat template with exact answer masks.

Ids are assembled from parts, role markers as special tokens and content as plain text: content that spells "<|user|>"
or "</s>" cannot forge a turn. For any other content the ids are those of the tokenizer's own chat template.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from zephyr_lab.models.tokenizer import ROLE_TOKENS, ROLES, content_ids

Message = Mapping[str, str]  # {"role": "user", "content": "..."}


@dataclass(frozen=True, slots=True)
class EncodedDialogue:
    """Ids of a dialogue; `answer_mask` is True from the first token of each answer to its </s>, and nowhere else."""

    ids: tuple[int, ...]
    answer_mask: tuple[bool, ...]


def encode_dialogues(
    tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Sequence[Message]]
) -> list[EncodedDialogue]:
    """Ids and answer masks of whole dialogues. Raises ValueError for roles out of order (see `require_turns`)."""
    for dialogue in dialogues:
        require_turns(dialogue)
    markers = _Markers(tokenizer)
    contents = iter(content_ids(tokenizer, [message["content"] for dialogue in dialogues for message in dialogue]))
    encoded = []
    for dialogue in dialogues:
        ids: list[int] = []
        mask: list[bool] = []
        for message in dialogue:
            content = [*next(contents), markers.eos]
            header = markers.headers[message["role"]]
            ids += [*header, *content, *markers.line_break]
            mask += [False] * len(header)
            mask += [message["role"] == "assistant"] * len(content)
            mask += [False] * len(markers.line_break)
        encoded.append(EncodedDialogue(tuple(ids), tuple(mask)))
    return encoded


def encode_prompts(tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Ids of dialogues that end with a user's turn, up to where the answer begins ("<|assistant|>" and a line break).

    They are a prefix of the ids of the same dialogue with an answer. Raises ValueError for any other last role.
    """
    for dialogue in dialogues:
        if not dialogue or dialogue[-1].get("role") != "user":
            last = dialogue[-1].get("role") if dialogue else None
            raise ValueError(f"a prompt must end with a user's turn, got {last!r} last")
    header = _Markers(tokenizer).headers["assistant"]
    return [[*encoded.ids, *header] for encoded in encode_dialogues(tokenizer, dialogues)]


def require_turns(dialogue: Sequence[Message]) -> None:
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


class _Markers:
    """Ids of the parts of a dialogue that are not content."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        def ids(text: str) -> list[int]:
            return tokenizer.encode(text, add_special_tokens=False)

        self.headers = {role: ids(f"{token}\n") for role, token in ROLE_TOKENS.items()}
        self.line_break = ids("\n")
        self.eos: int = tokenizer.eos_token_id
