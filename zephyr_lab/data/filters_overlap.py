"""Texts that occur again: exact and near duplicates among dialogues, and benchmark questions in a training set.

Exact duplicates: every turn equal, whatever its case and spacing. Near ones: the sets of five-word runs of the two
dialogues overlap (Jaccard index) at least as much as asked; candidates come from MinHash bands, and each is verified on
the sets themselves, so that no dialogue is dropped by chance. The first of each kind is kept.

A prompt is contaminated by a benchmark question where at least half of the question's runs of eight words occur in
it; a question of fewer words must be the whole prompt, or every other text would contain it. Case, spacing and
punctuation do not count. Questions are arguments, so any benchmark, released or of the embedded world, can be used.
Short follow-ups ("Make it shorter.") belong to no benchmark: `comparable` leaves them out.
"""

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.core.rows import Row
from zephyr_lab.data.schemas import Dialogue

_TOKEN = re.compile(r"\w+|[+*/=<>^-]")


def words(text: str) -> list[str]:
    """Words in lower case without punctuation; operators stay: "5 + 3" is not "5 - 3"."""
    return _TOKEN.findall(text.lower())


Words = tuple[str, ...]
RUN = 8  # words of a benchmark question that are looked for as a whole
SHARE = 0.5
QUESTION_COLUMNS = ("turns", "prompt", "instruction", "question", "text")
NEAR_RUN = 5  # words of a dialogue
NEAR = 0.8  # Jaccard index from which two dialogues are near duplicates
_BANDS, _ROWS = 32, 4  # a pair of index 0.8 is missed once in ten million, one of 0.9 never
_SEED = 7


class ExactDuplicates:
    """Dialogues by a hash of their text."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def holds(self, dialogue: Dialogue) -> bool:
        return _digest(dialogue) in self._known

    def add(self, dialogue: Dialogue) -> None:
        self._known.add(_digest(dialogue))


class NearDuplicates:
    """Dialogues by their runs of words; about 4 bytes a word, and 256 for the bands of each."""

    def __init__(self, least: float = NEAR) -> None:
        if not 0.5 <= least <= 1:
            raise ValueError(f"the Jaccard index of near duplicates must be from 0.5 to 1, got {least}")
        import numpy

        self._numpy = numpy
        self._least = least
        generator = numpy.random.default_rng(_SEED)
        # Multiply-shift hashing (Dietzfelbinger 1996): (a h + b) mod 2^64, upper half, with a and b of 64 bits.
        self._a, self._b = generator.integers(0, 2**64, (2, _BANDS * _ROWS, 1), dtype=numpy.uint64)
        self._bands: dict[tuple[int, bytes], list[int]] = {}
        self._sets: list[Any] = []
        # A dialogue is looked for and, where it is new, added: its runs and bands are computed once.
        self._last: tuple[Dialogue | None, Any, list[tuple[int, bytes]]] = (None, None, [])

    def holds(self, dialogue: Dialogue) -> bool:
        runs, keys = self._signature(dialogue)
        candidates = {place for band in keys for place in self._bands.get(band, ())}
        return any(self._jaccard(runs, self._sets[place]) >= self._least for place in sorted(candidates))

    def add(self, dialogue: Dialogue) -> None:
        runs, keys = self._signature(dialogue)
        for band in keys:
            self._bands.setdefault(band, []).append(len(self._sets))
        self._sets.append(runs)

    def _signature(self, dialogue: Dialogue) -> tuple[Any, list[tuple[int, bytes]]]:
        if self._last[0] is not dialogue:
            runs = self._runs(dialogue)
            self._last = (dialogue, runs, self._keys(runs))
        return self._last[1:]

    def _runs(self, dialogue: Dialogue) -> Any:
        """Sorted 32-bit hashes of the different runs of words."""
        spoken = [word for message in dialogue.messages for word in words(message.content)]
        count = max(1, len(spoken) - NEAR_RUN + 1)
        hashes = {zlib.crc32(" ".join(spoken[start : start + NEAR_RUN]).encode()) for start in range(count)}
        return self._numpy.array(sorted(hashes), dtype=self._numpy.uint32)

    def _keys(self, runs: Any) -> list[tuple[int, bytes]]:
        """One key a band: four MinHash values side by side."""
        smallest = self._numpy.full((_BANDS * _ROWS, 1), 2**32 - 1, dtype=self._numpy.uint64)
        for start in range(0, len(runs), 4096):  # a dialogue of a million words must not take a gigabyte
            piece = runs[None, start : start + 4096].astype(self._numpy.uint64)
            hashed = (self._a * piece + self._b) >> self._numpy.uint64(32)
            smallest = self._numpy.minimum(smallest, hashed.min(axis=1, keepdims=True))
        signature = smallest.astype(self._numpy.uint32).reshape(_BANDS, _ROWS)
        return [(band, values.tobytes()) for band, values in enumerate(signature)]

    def _jaccard(self, one: Any, other: Any) -> float:
        smaller, larger = sorted((len(one), len(other)))
        if smaller < self._least * larger:
            return 0.0
        common = len(self._numpy.intersect1d(one, other, assume_unique=True))
        return common / (smaller + larger - common)


def _digest(dialogue: Dialogue) -> bytes:
    text = "\x1e".join(" ".join(message.content.lower().split()) for message in dialogue.messages)
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Match:
    """A benchmark question found in a prompt; `share` is that of its runs of words that occur there."""

    benchmark: str
    question: str
    share: float


class Benchmarks:
    """Questions of named benchmarks, indexed by their runs of words."""

    def __init__(self, questions: Mapping[str, Iterable[str]], *, run: int | None = RUN, share: float = SHARE) -> None:
        """With `run=None` only a whole prompt counts: for questions made from templates, which share runs of words
        with other questions and occur inside longer ones.

        Raises ValueError for a run below 1 word, a share outside (0, 1], or no question at all.
        """
        if (run is not None and run < 1) or not 0 < share <= 1:
            raise ValueError(f"run must be at least 1 word and share in (0, 1], got {run} and {share}")
        self._run, self._share = run, share
        self._questions: list[tuple[str, str, int]] = []
        self._whole: dict[Words, int] = {}
        self._runs: dict[Words, set[int]] = {}
        for benchmark, texts in questions.items():
            for text in texts:
                self._add(benchmark, text)
        if not self._questions:
            raise ValueError("no benchmark question to compare with")

    def __len__(self) -> int:
        return len(self._questions)

    def find(self, prompt: str) -> Match | None:
        """The question that occurs in `prompt` with the largest share, if it reaches the required share."""
        asked = tuple(words(prompt))
        if (whole := self._whole.get(asked)) is not None:
            benchmark, question, _ = self._questions[whole]
            return Match(benchmark, question, 1.0)
        shared = Counter(place for run in _runs(asked, self._run) for place in self._runs.get(run, ()))
        best = max(shared, key=lambda place: (shared[place] / self._questions[place][2], -place), default=None)
        if best is None or shared[best] < self._share * self._questions[best][2]:
            return None
        benchmark, question, runs = self._questions[best]
        return Match(benchmark, question, shared[best] / runs)

    def _add(self, benchmark: str, question: str) -> None:
        asked = tuple(words(question))
        if not asked:
            return
        place, runs = len(self._questions), _runs(asked, self._run)
        self._questions.append((benchmark, question, len(runs)))
        self._whole.setdefault(asked, place)
        for run in runs:
            self._runs.setdefault(run, set()).add(place)


def comparable(turns: Sequence[str]) -> list[str]:
    """The turns of a benchmark question that can be looked for: the first, and follow-ups long enough to be its own."""
    return [turn for place, turn in enumerate(turns) if place == 0 or len(words(turn)) >= RUN]


def read_questions(path: Path) -> list[str]:
    """Benchmark questions of a file: FastChat's `turns`, or a column prompt, instruction, question or text.

    Raises ValueError where no row has one of them, and as `iter_rows` does.
    """
    questions = [text for row in iter_rows(path) if isinstance(row, Row) for text in _questions_of(row)]
    if not questions:
        raise ValueError(f"{path.name!r} holds no benchmark questions; looked for {', '.join(QUESTION_COLUMNS)}")
    return questions


def _questions_of(row: Row) -> list[str]:
    for column in QUESTION_COLUMNS:
        value = row.data.get(column)
        texts = value if isinstance(value, list) else [value]
        if texts := [text for text in texts if isinstance(text, str)]:
            return comparable(texts)
    return []


def _runs(text: Words, length: int | None) -> set[Words]:
    if length is None:
        return set()
    return {text[start : start + length] for start in range(len(text) - length + 1)}
