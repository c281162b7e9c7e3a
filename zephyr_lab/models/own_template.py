"""Dialogues as token ids in a tokenizer's own chat template, with exact answer masks.

The ids are those of the rendered text, `apply_chat_template(messages, tokenize=True)`: BOS and a default system turn
are where the template writes them. An answer begins where its prompt ends (the messages before it, rendered with the
header of an answer) and ends with the token that ends a turn, which a mark in the answer's place shows. Content that
spells a special token is read as text. What the template writes as plain text ("[INST]") cannot be told from content.
A dialogue that cannot be masked exactly is refused, by itself. No token joins an answer's header with its first
characters, as for Zephyr's template.

Tokenizers cut a text at its special tokens and read each stretch by itself, but not each alike: sentencepiece's layout
puts a "▁" before every stretch (as a normaliser: Llama 2, Mistral 0.1) or before the first alone (as a pre-tokenizer).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from zephyr_lab.models.tokenizer import content_ids, require_unicode

Message = Mapping[str, str]
MARK = "\ue0f3\ue0f1\ue0f4"  # stands for an answer; of the private use area, so no text has it
STAND_INS = 0xF0000  # characters of private use that stand for spelled special tokens
NO_CHANGE = {"type": "Sequence", "normalizers": []}  # a normaliser that changes no text
AT_ONCE = 1000  # dialogues in a batch of the tokenizer

PROBE: tuple[Message, ...] = (
    {"role": "user", "content": "What is 2 plus 3?"},
    {"role": "assistant", "content": "It is 5."},
    {"role": "user", "content": "Why, \u00e9?"},
    {"role": "assistant", "content": "So it is, 12  times."},
)


@dataclass(frozen=True, slots=True)
class Masked:
    """Ids of a dialogue; `answers`: (first, behind the last) token of each answer, the end of its turn included."""

    ids: list[int]
    answers: list[tuple[int, int]]

    def mask(self) -> list[bool]:
        """True at the tokens of answers."""
        marks = [False] * len(self.ids)
        for first, behind in self.answers:
            marks[first:behind] = [True] * (behind - first)
        return marks


class Unwritable(ValueError):
    """A dialogue that a chat template cannot write with exact masks; `kind` says why in a few words, to count by."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


REFUSED = "refused by the chat template"
CHANGED = "rewritten by the chat template"
FORGED = "a special token spelled out"
JOINED = "header and answer joined"


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A dialogue's text and where each answer begins and its turn ends, in characters."""

    text: str
    answers: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A text between special tokens; `opens`: it is at the very beginning, with at most BOS before it."""

    text: str
    opens: bool


class SectionIds:
    """Encodes stretches of text; what spells a special token in them is read as text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        self._later: Tokenizer | None = None
        self._behind: Tokenizer | None = None  # made when it is first needed: a copy takes half a second
        if self._backend is not None and _prepends_to_the_first(self._backend):
            self._later = _changed(self._backend, _first_only_off)

    def ids(self, stretches: Sequence[Stretch]) -> list[list[int]]:
        """Ids of each stretch, in order. Raises ValueError for text that is not Unicode."""
        ids = content_ids(self._tokenizer, [one.text for one in stretches])
        if self._later is None:
            return ids
        later = iter(_encoded(self._later, [one.text for one in stretches if not one.opens]))
        return [whole if one.opens else next(later) for whole, one in zip(ids, stretches, strict=True)]

    def continued(self, text: str) -> list[int]:
        """Ids of a text that goes on a stretch, so that nothing is put before it.

        Raises ValueError for a tokenizer without a fast backend, whose rules cannot be read.
        """
        if self._backend is None:
            raise ValueError(
                f"the tokenizer {type(self._tokenizer).__name__} joins a header with the text behind it, and has no "
                "fast backend that could keep them apart; load its fast form (tokenizer.json)"
            )
        if self._behind is None:
            self._behind = _changed(self._backend, _prefix_off)
        (ids,) = _encoded(self._behind, [text])
        return ids


class OwnTemplate:
    """How a tokenizer's own template writes dialogues. Raises ValueError, in one line, for one that cannot serve."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._sections = SectionIds(tokenizer)
        added = [token for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace()]
        special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
        self._special = _any_of(special)
        self._added = _any_of(special | {token.content for token in added})
        self._end = self._end_of_a_turn()
        written = self._prompt_text(PROBE[:3]) + self._end
        self._control = sorted(special | {token.content for token in added if token.content in written})
        self._spelled = _any_of(self._control)
        self._tags = [token for token in self._control if token in written]
        probe = self._rendered(PROBE)
        (whole,) = self._whole([probe])
        self._reads_parts = whole is not None and self._parts(probe) == whole

    @property
    def end_id(self) -> int:
        """The last token of an answer's turn, learned with it: that of "<|im_end|>" in ChatML."""
        return self._ids([self._end])[0][-1]

    @property
    def tag_ids(self) -> set[int]:
        """The tokens of the template's turns, without what may end a text: a model that writes one forges a turn."""
        ids = set(self._tokenizer.convert_tokens_to_ids(self._tags))
        of = self._tokenizer
        return ids - {self.end_id, of.pad_token_id, of.bos_token_id, of.eos_token_id, of.unk_token_id}

    def dialogues(self, dialogues: Sequence[Sequence[Message]]) -> list[Masked | Unwritable]:
        """Ids and answers of each dialogue, or why it has none."""
        masked: list[Masked | Unwritable] = []
        for start in range(0, len(dialogues), AT_ONCE):
            masked += self._batch(dialogues[start : start + AT_ONCE])
        return masked

    def prompts(self, dialogues: Sequence[Sequence[Message]]) -> list[list[int] | Unwritable]:
        """Ids of each dialogue up to where the answer begins, or why it has none."""
        return [self._prompt(dialogue) for dialogue in dialogues]

    def _prompt(self, dialogue: Sequence[Message]) -> list[int] | Unwritable:
        try:
            safe = self._without_spellings(dialogue)
            text = self._prompt_text(safe)
            if safe == [*dialogue]:
                return self._ids([text])[0]
            self._require_same(text, self._prompt_text(dialogue))
            return self._by_parts(_Rendered(text, ())).ids
        except Unwritable as error:
            return error

    def require_system_turn(self) -> None:
        """Raises ValueError where the template takes no system turn."""
        try:
            self._text([{"role": "system", "content": ""}, *PROBE])
        except Unwritable as error:
            raise ValueError(
                f"the chat template of {self._tokenizer.name_or_path!r} takes no system turn, and system_turn asks "
                f"for an empty one: {error}; set system_turn to false"
            ) from error

    def _batch(self, dialogues: Sequence[Sequence[Message]]) -> list[Masked | Unwritable]:
        results: dict[int, Masked | Unwritable] = {}
        plain: dict[int, _Rendered] = {}
        for index, dialogue in enumerate(dialogues):
            try:
                safe = self._without_spellings(dialogue)
                rendered = self._rendered(safe)
                if safe == [*dialogue]:
                    plain[index] = rendered
                else:
                    self._require_same(rendered.text, self._text(dialogue))
                    results[index] = self._by_parts(rendered)
            except Unwritable as error:
                results[index] = error
        for (index, rendered), masked in zip(plain.items(), self._whole(list(plain.values())), strict=True):
            try:
                results[index] = self._apart(rendered) if masked is None else masked
            except Unwritable as error:
                results[index] = error
        return [results[index] for index in range(len(dialogues))]

    def _whole(self, rendered: Sequence[_Rendered]) -> list[Masked | None]:
        """Each text in one piece; None where a token reaches over an answer's border."""
        texts = [
            text
            for one in rendered
            for text in (one.text, *(one.text[:place] for answer in one.answers for place in answer))
        ]
        ids = iter(self._ids(texts))
        masked: list[Masked | None] = []
        for one in rendered:
            whole = next(ids)
            before = [next(ids) for _ in range(2 * len(one.answers))]
            borders = [len(part) for part in before]
            is_clean = all(whole[: len(part)] == part for part in before)
            masked.append(Masked(whole, list(zip(borders[::2], borders[1::2], strict=True))) if is_clean else None)
        return masked

    def _apart(self, rendered: _Rendered) -> Masked:
        """A dialogue whose header and answer the tokenizer would join, kept apart; its prompts begin its ids."""
        masked = self._by_parts(rendered, JOINED)
        prompts = self._ids([rendered.text[:start] for start, _ in rendered.answers[:1]])
        if any(masked.ids[: len(prompt)] != prompt for prompt in prompts):
            raise Unwritable(JOINED, "one token holds the end of a header and the beginning of its answer")
        return masked

    def _by_parts(self, rendered: _Rendered, kind: str = FORGED) -> Masked:
        """As `_parts`. Raises Unwritable where the tokenizer reads them otherwise than the whole."""
        if not self._reads_parts:
            raise Unwritable(kind, "and the tokenizer reads a text's parts otherwise than the whole")
        masked = self._parts(rendered)
        special = set(self._tokenizer.convert_tokens_to_ids(self._control)) - {self._tokenizer.unk_token_id}
        written = sum(self._spelled.fullmatch(text) is not None for _, text in _cut(self._spelled, rendered.text))
        if sum(id_ in special for id_ in masked.ids) != written:
            raise Unwritable(FORGED, "one of the template that the tokenizer cannot read as text")
        return masked

    def _parts(self, rendered: _Rendered) -> Masked:
        """The text cut at its added tokens and the answers' borders; stand-ins are read as what they stand for."""
        borders = sorted({place for answer in rendered.answers for place in answer})
        ids: list[int] = []
        counts: dict[int, int] = {}
        for start, text in _cut(self._added, rendered.text):
            if self._added.fullmatch(text):
                counts[start] = len(ids)
                ids.append(self._tokenizer.convert_tokens_to_ids(text))
                continue
            within = [start, *(place for place in borders if start < place < start + len(text)), start + len(text)]
            for first, behind in pairwise(within):
                counts[first] = len(ids)
                part = self._spelled_out(rendered.text[first:behind])
                ids += (
                    self._sections.ids([Stretch(part, opens=start == 0)])[0]
                    if first == start
                    else self._sections.continued(part)
                )
        counts[len(rendered.text)] = len(ids)
        return Masked(ids, [(counts[start], counts[end]) for start, end in rendered.answers])

    def _rendered(self, dialogue: Sequence[Message]) -> _Rendered:
        """Text and answers' places of a dialogue. Raises Unwritable."""
        text = self._text(dialogue)
        answers = []
        for place, message in enumerate(dialogue):
            if message["role"] != "assistant":
                continue
            prompt = self._prompt_text(dialogue[:place])
            if not text.startswith(prompt):
                raise Unwritable(CHANGED, f"the text before answer {place} is another one once the answer is there")
            after = self._after(dialogue, place)
            end = len(text) - len(after) + len(self._end)
            if not text.endswith(after) or not after.startswith(self._end) or end - len(self._end) < len(prompt):
                raise Unwritable(CHANGED, f"the text behind answer {place} depends on its content")
            answers.append((len(prompt), end))
        return _Rendered(text, tuple(answers))

    def _after(self, dialogue: Sequence[Message], place: int) -> str:
        """The text behind the answer at `place`. Raises Unwritable where the answer is not written exactly once."""
        return self._around(dialogue, place)[1]

    def _around(self, dialogue: Sequence[Message], place: int) -> tuple[str, str]:
        marked = [*dialogue[:place], {**dialogue[place], "content": MARK}, *dialogue[place + 1 :]]
        parts = self._text(marked).split(MARK)
        if len(parts) != 2:
            raise Unwritable(CHANGED, f"the answer at turn {place} is written {len(parts) - 1} times")
        return parts[0], parts[1]

    def _end_of_a_turn(self) -> str:
        """What ends an answer, last or not. Raises ValueError where no token does, or prompts stop short of answers."""
        try:
            before, _ = self._around(PROBE[:2], 1)
            prompt = self._prompt_text(PROBE[:1])
            ends = [self._after(PROBE, place) for place in (1, 3)]
        except Unwritable as error:
            raise ValueError(self._useless(str(error))) from error
        between = before[len(prompt) :]
        if not before.startswith(prompt):
            raise ValueError(self._useless("writes a prompt that its dialogues do not begin with"))
        ignores = prompt == self._text(PROBE[:1])
        if self._special.search(between) or (ignores and between.strip()):
            raise ValueError(self._useless(f"ends a prompt before {between!r}, which comes before the answer"))
        shared = "".join(one for one, other in takewhile(lambda both: both[0] == both[1], zip(*ends, strict=False)))
        end = re.match(rf"(?s:(?!{self._added.pattern}).)*(?:{self._added.pattern})+", shared)
        if end is None:
            raise ValueError(self._useless(f"ends an answer with no special token, but {ends[1][:40]!r}"))
        return end.group()

    def _useless(self, why: str) -> str:
        return (
            f"the chat template of {self._tokenizer.name_or_path!r} cannot serve training: it {why}; mend it, or take "
            "it away (chat_template = None) if Zephyr's is meant"
        )

    def _without_spellings(self, dialogue: Sequence[Message]) -> list[Message]:
        """The dialogue with a stand-in for each special token that a text spells."""
        for message in dialogue:
            require_unicode(message["content"])
        if not any(self._spelled.search(message["content"]) for message in dialogue):
            return [*dialogue]
        return [{**message, "content": self._spelled.sub(self._stand_in, message["content"])} for message in dialogue]

    def _stand_in(self, token: re.Match[str]) -> str:
        return chr(STAND_INS + self._control.index(token.group()))

    def _spelled_out(self, text: str) -> str:
        for place, token in enumerate(self._control):
            text = text.replace(chr(STAND_INS + place), token)
        return text

    def _require_same(self, text: str, wanted: str) -> None:
        if self._spelled_out(text) != wanted:
            raise Unwritable(FORGED, "and the template writes such a text in another way")

    def _text(self, dialogue: Sequence[Message], *, header: bool = False) -> str:
        try:
            text = self._tokenizer.apply_chat_template([*dialogue], tokenize=False, add_generation_prompt=header)
        except (TemplateError, ValueError, TypeError) as error:
            raise Unwritable(f"{REFUSED} ({' '.join(str(error).split())[:80]})") from error
        return str(text)

    def _prompt_text(self, dialogue: Sequence[Message]) -> str:
        return self._text(dialogue, header=True)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(ids) for ids in self._tokenizer([*texts], add_special_tokens=False)["input_ids"]] if texts else []


def ids_before(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before a text by itself: [BOS] for Llama and Mistral, [] for most byte-level ones."""
    whole, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    count = next((place for place in range(len(whole) + 1) if whole[place : place + len(bare)] == bare), 0)
    return list(whole[:count])


def _any_of(tokens: set[str] | list[str]) -> re.Pattern[str]:
    """Any of the tokens, the longest first; nothing where there is none."""
    return re.compile("|".join(re.escape(one) for one in sorted(tokens, key=len, reverse=True)) or r"(?!)")


def _cut(tokens: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    """Start and text of the tokens and of what is between them, in order, without empty parts."""
    end = 0
    for token in tokens.finditer(text):
        if token.start() > end:
            yield end, text[end : token.start()]
        yield token.start(), token.group()
        end = token.end()
    if end < len(text):
        yield end, text[end:]


def _encoded(backend: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in backend.encode_batch(list(texts), add_special_tokens=False)]


def _prepends_to_the_first(backend: Tokenizer) -> bool:
    steps = backend.pre_tokenizer
    return steps is not None and '"prepend_scheme":"first"' in steps.__getstate__().decode().replace(" ", "")


def _changed(backend: Tokenizer, change: Any) -> Tokenizer:
    """A copy of the tokenizer, each step of whose normaliser and pre-tokenizer went through `change`."""
    whole = json.loads(backend.to_str())
    for part in ("normalizer", "pre_tokenizer"):
        whole[part] = _walked(whole[part], change)
    changed = Tokenizer.from_str(json.dumps(whole))
    changed.encode_special_tokens = True
    changed.no_truncation()
    changed.no_padding()
    return changed


def _walked(step: Any, change: Any) -> Any:
    if isinstance(step, list):
        return [_walked(one, change) for one in step]
    if isinstance(step, dict):
        return change({name: _walked(value, change) for name, value in step.items()})
    return step


def _first_only_off(step: dict[str, Any]) -> dict[str, Any]:
    return {**step, "prepend_scheme": "never"} if step.get("prepend_scheme") == "first" else step


def _prefix_off(step: dict[str, Any]) -> dict[str, Any]:
    if step.get("type") == "Prepend":
        return NO_CHANGE
    off = {"prepend_scheme": "never", "add_prefix_space": False}
    return {**step, **{name: value for name, value in off.items() if name in step}}
