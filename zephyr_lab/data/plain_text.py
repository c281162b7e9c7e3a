"""Texts without turns as token ids, the way TRL's SFTTrainer and DPOTrainer tokenise them.

The end token is written behind a text that does not end with it; the tokenizer puts before it what it puts before any
text (BOS). An answer begins where the ids of prompt and whole part, which is before the end of the prompt where a token
joins the two. What a text spells of special tokens is read as such: a plain text has no turns to forge.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


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
