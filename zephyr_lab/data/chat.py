"""Dialogues and plain texts as token ids with exact answer masks.

Dialogues are written in the tokenizer's own chat template (`models.own_template`), or in Zephyr's turns where it has
none. In these, role markers are written as the tokenizer knows them and content is plain text: content that spells
"</s>", or a role tag that is a special token, cannot imitate a turn. For any other content the ids are those of
`tokenizer(text)` for the rendered template `text`, what the tokenizer puts first (BOS) included. One border is kept on
purpose: no token joins the assistant's header with an answer's first characters (a tokenizer of bytes may join two line
breaks), because a model that answers starts after the header.

Texts without turns are tokenised as TRL's SFTTrainer and DPOTrainer do: an end token follows a text that does not end
with it, and what the tokenizer puts before any text (BOS) comes first. An answer begins where the ids of the prompt and
of the whole differ, which is before the end of the prompt where a token joins the two. Special tokens that a plain text
spells are read as such.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from zephyr_lab.data.splits import Prompt
from zephyr_lab.models.own_template import Message, OwnTemplate, SectionIds, Stretch, Unwritable, ids_before
from zephyr_lab.models.tokenizer import CHAT_TEMPLATE, ROLE_TOKENS, ROLES, writes_zephyrs_turns

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class EncodedDialogue:
    """Ids of a dialogue; `answer_mask` is True from the first token of each answer to the one that ends its turn."""

    ids: tuple[int, ...]
    answer_mask: tuple[bool, ...]


def encode_dialogues(
    tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Sequence[Message]]
) -> list[EncodedDialogue]:
    """Ids and answer masks of whole dialogues.

    Raises ValueError for roles out of order (see `require_turns`), for a dialogue that the tokenizer's chat template
    refuses or rewrites, and for a tokenizer that splits a rendered dialogue otherwise than its parts.
    """
    return _all_of(attempt_dialogues(tokenizer, dialogues))


def encode_prompts(tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Ids of dialogues that end with a user's turn, up to where the answer begins, the answer's header included.

    They are a prefix of the ids of the same dialogue with an answer. Raises ValueError for any other last role, and as
    `encode_dialogues`.
    """
    return _all_of(attempt_prompts(tokenizer, dialogues))


def attempt_dialogues(
    tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Sequence[Message]]
) -> list[EncodedDialogue | Unwritable]:
    """As `encode_dialogues`, with what the tokenizer's own template cannot write in its place."""
    for dialogue in dialogues:
        require_turns(dialogue)
    if _in_zephyrs_turns(tokenizer):
        return [*_Layout(tokenizer).encoded(dialogues)]
    return [
        one if isinstance(one, Unwritable) else EncodedDialogue(tuple(one.ids), tuple(one.mask()))
        for one in OwnTemplate(tokenizer).dialogues(dialogues)
    ]


def attempt_prompts(
    tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Sequence[Message]]
) -> list[list[int] | Unwritable]:
    """As `encode_prompts`, with what the tokenizer's own template cannot write in its place."""
    for dialogue in dialogues:
        if not dialogue or dialogue[-1].get("role") != "user":
            last = dialogue[-1].get("role") if dialogue else None
            raise ValueError(f"a prompt must end with a user's turn, got {last!r} last")
        require_turns(dialogue)
    if _in_zephyrs_turns(tokenizer):
        return [*_Layout(tokenizer).prompts(dialogues)]
    return OwnTemplate(tokenizer).prompts(dialogues)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> list[list[int] | Unwritable]:
    """Ids of each prompt up to where the answer begins: a text as the tokenizer reads it, messages by its template.

    A prompt that the template cannot write comes back as Unwritable in place of its ids.
    """
    if not prompts:
        return []
    if isinstance(prompts[0], str):
        return [list(ids) for ids in tokenizer(list(prompts))["input_ids"]]
    return attempt_prompts(tokenizer, prompts)


def require_system_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError where the tokenizer's chat template takes no system turn."""
    if not writes_zephyrs_turns(tokenizer):
        OwnTemplate(tokenizer).require_system_turn()


def end_of_answer(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that ends an answer's turn, the last one learned: "<|im_end|>" in ChatML, "</s>" in Zephyr's turns.

    An own template may end its turns with another token than the tokenizer's `eos_token`.
    """
    return tokenizer.eos_token_id if writes_zephyrs_turns(tokenizer) else OwnTemplate(tokenizer).end_id


def turn_tags(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that open or name a turn in the tokenizer's template: an answer with one invents a turn."""
    if not writes_zephyrs_turns(tokenizer):
        return OwnTemplate(tokenizer).tag_ids
    known = set(tokenizer.all_special_tokens)
    return {tokenizer.convert_tokens_to_ids(tag) for tag in ROLE_TOKENS.values() if tag in known}


def _all_of(written: Sequence[Read | Unwritable]) -> list[Read]:
    """Raises ValueError, naming the dialogue from 1, for the first that could not be written."""
    for number, one in enumerate(written, start=1):
        if isinstance(one, Unwritable):
            raise ValueError(f"dialogue {number} of {len(written)} cannot be written, {one}") from one
    return [one for one in written if not isinstance(one, Unwritable)]


def _in_zephyrs_turns(tokenizer: PreTrainedTokenizerBase) -> bool:
    if tokenizer.chat_template is None:  # shown once: Python remembers what it has warned of
        warnings.warn(
            f"the tokenizer {tokenizer.name_or_path!r} has no chat template; its dialogues are written in Zephyr's",
            stacklevel=4,
        )
    return writes_zephyrs_turns(tokenizer)


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


# Tried with each tokenizer: what a tokenizer does with spaces and line breaks beside the tags shows in them.
PROBES: tuple[tuple[Message, ...], ...] = (
    ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes: 12."}),
    (
        {"role": "system", "content": ""},
        {"role": "user", "content": "\n a  b, \u00e9 \u65e5\n\n"},
        {"role": "assistant", "content": "Fine, thanks. \n"},
        {"role": "user", "content": " What is 2+3? "},
        {"role": "assistant", "content": "The answer is 5."},
    ),
)


@dataclass(frozen=True, slots=True)
class _Block:
    """A message's ids, from the line break before its tag to the </s> behind it, the first `header` no content."""

    ids: list[int]
    header: int
    is_answer: bool


class _Layout:
    """How a tokenizer writes the parts of a dialogue. Raises ValueError where that is not how it reads the whole."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError(f"the tokenizer {tokenizer.name_or_path!r} has no eos_token to end a turn with; set one")
        self._eos: int = tokenizer.eos_token_id
        self._sections = SectionIds(tokenizer)
        self._start = ids_before(tokenizer) or _written_start(tokenizer)
        self._tags = {
            role: tokenizer.convert_tokens_to_ids(tag)
            for role, tag in ROLE_TOKENS.items()
            if tag in tokenizer.all_special_tokens
        }
        (self._line_break,) = self._sections.ids([Stretch("\n", opens=False)])
        self._headers = {
            (role, first): self._marker(role, first) + self._sections.ids([self._stretch(role, "", first)])[0]
            for role in ROLE_TOKENS
            for first in (True, False)
        }
        for dialogue in PROBES:
            _require_ids_of_the_whole(tokenizer, dialogue, list(self.encoded([dialogue])[0].ids))

    def encoded(self, dialogues: Sequence[Sequence[Message]]) -> list[EncodedDialogue]:
        return [self._joined(blocks) for blocks in self._blocks(dialogues)]

    def prompts(self, dialogues: Sequence[Sequence[Message]]) -> list[list[int]]:
        header = self._headers["assistant", False]
        return [
            [*self._start, *(id_ for block in blocks for id_ in block.ids), *header]
            for blocks in self._blocks(dialogues)
        ]

    def _joined(self, blocks: Sequence[_Block]) -> EncodedDialogue:
        ids, mask = list(self._start), [False] * len(self._start)
        for block in blocks:
            ids += block.ids
            mask += [False] * block.header + [block.is_answer] * (len(block.ids) - block.header)
        return EncodedDialogue((*ids, *self._line_break), (*mask, *(False for _ in self._line_break)))

    def _blocks(self, dialogues: Sequence[Sequence[Message]]) -> list[list[_Block]]:
        """The messages of each dialogue, all encoded in one batch."""
        texts = iter(self._sections.ids([
            self._stretch(message["role"], message["content"], first=not place)
            for dialogue in dialogues
            for place, message in enumerate(dialogue)
        ]))  # fmt: skip
        return [
            [self._block(message, next(texts), first=not place) for place, message in enumerate(dialogue)]
            for dialogue in dialogues
        ]

    def _block(self, message: Message, text: list[int], *, first: bool) -> _Block:
        role = message["role"]
        header = self._headers[role, first]
        ids = [*self._marker(role, first), *text]
        if role == "assistant" and ids[: len(header)] != header:
            ids = [*header, *self._sections.continued(message["content"])]
        return _Block([*ids, self._eos], len(header), role == "assistant")

    def _marker(self, role: str, first: bool) -> list[int]:
        """A tag that is a special token, with the line break before it; nothing where it is plain text."""
        return [*([] if first else self._line_break), self._tags[role]] if role in self._tags else []

    def _stretch(self, role: str, content: str, first: bool) -> Stretch:
        """What comes between the marker, or the </s> of the message before, and the message's own </s>."""
        if role in self._tags:
            return Stretch(f"\n{content}", opens=False)
        before = "" if first else "\n"
        return Stretch(f"{before}{ROLE_TOKENS[role]}\n{content}", opens=first)


def _written_start(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """[BOS] where the tokenizer's own wording of the template writes it, else []."""
    if tokenizer.chat_template is None or tokenizer.bos_token is None:
        return []
    text = tokenizer.apply_chat_template([*PROBES[0]], tokenize=False)
    return [tokenizer.bos_token_id] if str(text).startswith(tokenizer.bos_token) else []


def _require_ids_of_the_whole(tokenizer: PreTrainedTokenizerBase, dialogue: Sequence[Message], ids: list[int]) -> None:
    """Raises ValueError unless the tokenizer gives these ids for the rendered dialogue too."""
    text = tokenizer.apply_chat_template([*dialogue], chat_template=CHAT_TEMPLATE, tokenize=False)
    whole = list(tokenizer(text)["input_ids"])
    if not ids_before(tokenizer):
        whole = [*_written_start(tokenizer), *whole]
    if ids == whole:
        return
    place = next((at for at, pair in enumerate(zip(ids, whole, strict=False)) if pair[0] != pair[1]), len(ids))
    ours, theirs = (tokenizer.convert_ids_to_tokens(some[place : place + 3]) for some in (ids, whole))
    raise ValueError(
        f"the tokenizer {tokenizer.name_or_path!r} reads a dialogue as a whole otherwise than in parts: at token "
        f"{place} {theirs} instead of {ours}, so no mask could mark the answers; take one whose special tokens keep "
        "the spaces beside them, that adds nothing behind a text (add_eos_token) and joins no header with an answer"
    )


def ended(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with its end token. Raises ValueError for a tokenizer that has none."""
    end = tokenizer.eos_token
    if end is None:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} has no eos_token, so no text would end; set tokenizer.eos_token"
        )
    return text if text.endswith(end) else text + end


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text and its end. Raises as `ended`."""
    return _ids(tokenizer, ended(tokenizer, text))


def continued_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, answers: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """Ids of a prompt as far as all its answers continue them, and of each answer with its end. Raises as `ended`."""
    before = _ids(tokenizer, prompt)
    wholes = [_ids(tokenizer, prompt + ended(tokenizer, answer)) for answer in answers]
    shared = min((_shared(before, whole) for whole in wholes), default=len(before))
    return before[:shared], [whole[shared:] for whole in wholes]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])


def _shared(ids: Sequence[int], other: Sequence[int]) -> int:
    """How many ids the two have alike at the beginning."""
    unlike = (place for place, pair in enumerate(zip(ids, other, strict=False)) if pair[0] != pair[1])
    return next(unlike, min(len(ids), len(other)))
