"""Ids of stretches of text as a tokenizer reads them inside a longer one, between two special tokens.

Tokenizers cut a text at its special tokens and read each stretch by itself, but not each alike: sentencepiece's layout
puts a "▁" before every stretch (as a normaliser: Llama 2, Mistral 0.1) or before the first alone (as a pre-tokenizer).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from zephyr_lab.models.tokenizer import content_ids

NOTHING = {"type": "Sequence", "normalizers": []}  # a normaliser that changes no text


@dataclass(frozen=True, slots=True)
class Stretch:
    """A text between special tokens; `opens`: it stands at the very beginning, with at most BOS before it."""

    text: str
    opens: bool


class SectionIds:
    """Encodes stretches of text; what spells a special token in them is read as text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        self._later: Tokenizer | None = None
        if self._backend is not None and _prepends_to_the_first(self._backend):
            self._later = _changed(self._backend, _first_only_off)

    def ids(self, stretches: Sequence[Stretch]) -> list[list[int]]:
        """Ids of each stretch, in order. Raises ValueError for text that is no Unicode."""
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
        (ids,) = _encoded(_changed(self._backend, _prefix_off), [text])
        return ids


def ids_before(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before a text by itself: [BOS] for Llama and Mistral, [] for most byte-level ones."""
    whole, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    count = next((place for place in range(len(whole) + 1) if whole[place : place + len(bare)] == bare), 0)
    return list(whole[:count])


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
    made = Tokenizer.from_str(json.dumps(whole))
    made.encode_special_tokens = True
    made.no_truncation()
    made.no_padding()
    return made


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
        return NOTHING
    off = {"prepend_scheme": "never", "add_prefix_space": False}
    return {**step, **{name: value for name, value in off.items() if name in step}}
