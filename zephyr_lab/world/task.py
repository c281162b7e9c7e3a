"""Task records: two-turn questions whose right answers, wrong answers and checks are known exactly.

An ideal answer is the core sentence followed by one explanation sentence. Correctness is decided on normalised text
(lower case, words and operators only), so that style can be scored apart.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

HELD_OUT_ONE_IN = 5
_WORD = re.compile(r"[^\W_]+|[+*=/<>-]")


@dataclass(frozen=True, slots=True)
class Check:
    """Part of a right answer: one of the phrases `any_of` must occur; worth `weight` (a turn's weights sum to 1)."""

    any_of: tuple[str, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One question with everything needed to answer it well, answer it badly, and grade any answer.

    `wrong_core` is plausible and fails at least half of the checks' weight. `explanation` holds the phrase `key`, which
    `wrong_explanation` lacks. Where `known` is False the right core says so, and `wrong_core` makes a fact up.
    `group` is the kind of question, e.g. "symbol" or "returns".
    """

    prompt: str
    core: str
    wrong_core: str
    checks: tuple[Check, ...]
    explanation: str
    wrong_explanation: str
    key: str
    group: str
    known: bool = True

    @property
    def ideal(self) -> str:
        return f"{self.core} {self.explanation}"


Said = tuple[str, str]  # what a right and a wrong answer say


def both(form: str, right: Any, wrong: Any) -> Said:
    """`form` filled in with the right word and with the wrong one; tuples where it has several places."""
    right, wrong = (words if isinstance(words, tuple) else (words,) for words in (right, wrong))
    return form.format(*right), form.format(*wrong)


def ask(
    prompt: str, core: Said, checks: Sequence[str | Check], explained: Said, key: str, group: str, known: bool = True
) -> Turn:
    """A turn of right and wrong sentences. Checks that are phrases have equal weights."""
    weighed = tuple(Check((one,), 1 / len(checks)) if isinstance(one, str) else one for one in checks)
    return Turn(prompt, *core, weighed, *explained, key, group, known)


@dataclass(frozen=True, slots=True)
class Task:
    """A two-turn question; the second turn needs the first. Equal `key`: the same question in other words or order."""

    category: str
    key: str
    turns: tuple[Turn, Turn]


def is_held_out(key: str) -> bool:
    """Whether an instance belongs to the benchmarks (one in five, by a hash of its key) or to training text."""
    return int.from_bytes(blake2b(key.encode("utf-8"), digest_size=8).digest(), "big") % HELD_OUT_ONE_IN == 0


def normalise(text: str) -> str:
    """Lower-case words and operators, one space between and around them: " the answer is 12 we have 7 + 5 = 12 "."""
    return f" {' '.join(_WORD.findall(text.lower()))} "


@lru_cache(maxsize=65536)
def phrase(text: str) -> str:
    """`normalise`, cached: the phrases of checks are asked for again and again."""
    return normalise(text)


def word_count(text: str) -> int:
    """Words as a reader counts them: split at white space."""
    return len(text.split())
