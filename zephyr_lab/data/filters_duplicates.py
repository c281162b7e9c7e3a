"""Exact and near duplicates among dialogues, the first of each kind kept.

Exact: every turn equal, whatever its case and spacing. Near: the sets of five-word runs of the
two dialogues overlap (Jaccard index) at least as much as asked; candidates come from MinHash bands, and each is
verified on the sets themselves, so that no dialogue is dropped by chance.
"""

import hashlib
import zlib
from typing import Any

from zephyr_lab.data.filters_words import words
from zephyr_lab.data.schemas import Dialogue

RUN = 5  # words
NEAR = 0.8  # Jaccard index from which two dialogues are near duplicates
_BANDS, _ROWS = 32, 4  # a pair of index 0.8 is missed once in ten million, one of 0.9 never
_SEED = 7


class ExactDuplicates:
    """Remembers dialogues by a hash of their text."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def holds(self, dialogue: Dialogue) -> bool:
        return _digest(dialogue) in self._known

    def add(self, dialogue: Dialogue) -> None:
        self._known.add(_digest(dialogue))


class NearDuplicates:
    """Remembers dialogues by their runs of words; about 4 bytes a word, and 256 for the bands of each."""

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
        # A dialogue is looked for and, where it is new, added: its runs and bands are reckoned once.
        self._last: tuple[Dialogue | None, Any, list[tuple[int, bytes]]] = (None, None, [])

    def holds(self, dialogue: Dialogue) -> bool:
        runs, keys = self._reckon(dialogue)
        candidates = {place for band in keys for place in self._bands.get(band, ())}
        return any(self._jaccard(runs, self._sets[place]) >= self._least for place in sorted(candidates))

    def add(self, dialogue: Dialogue) -> None:
        runs, keys = self._reckon(dialogue)
        for band in keys:
            self._bands.setdefault(band, []).append(len(self._sets))
        self._sets.append(runs)

    def _reckon(self, dialogue: Dialogue) -> tuple[Any, list[tuple[int, bytes]]]:
        if self._last[0] is not dialogue:
            runs = self._runs(dialogue)
            self._last = (dialogue, runs, self._keys(runs))
        return self._last[1:]

    def _runs(self, dialogue: Dialogue) -> Any:
        """Sorted 32-bit hashes of the different runs of words."""
        spoken = [word for message in dialogue.messages for word in words(message.content)]
        count = max(1, len(spoken) - RUN + 1)
        hashes = {zlib.crc32(" ".join(spoken[start : start + RUN]).encode()) for start in range(count)}
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
