"""Which prompts of a training set stand in a benchmark.

A prompt is contaminated by a benchmark question where at least half of the question's runs of eight words occur in
it; a question of fewer words must be the whole prompt, or it would be found in every other text. Case, spacing and
punctuation do not count. Questions are handed in, so any benchmark, released or of the embedded world, can be used.
Short follow-ups ("Make it shorter.") belong to no benchmark: `comparable` leaves them out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zephyr_lab.core.row_types import Row
from zephyr_lab.core.rows import iter_rows
from zephyr_lab.data.filters_words import words

RUN = 8
SHARE = 0.5
QUESTION_COLUMNS = ("turns", "prompt", "instruction", "question", "text")
Words = tuple[str, ...]


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
        with other questions and stand inside longer ones.

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
        """The question that stands in `prompt` with the largest share, if it reaches the share asked for."""
        asked = tuple(words(prompt))
        if (whole := self._whole.get(asked)) is not None:
            benchmark, question, _ = self._questions[whole]
            return Match(benchmark, question, 1.0)
        found = Counter(place for run in _runs(asked, self._run) for place in self._runs.get(run, ()))
        best = max(found, key=lambda place: (found[place] / self._questions[place][2], -place), default=None)
        if best is None or found[best] < self._share * self._questions[best][2]:
            return None
        benchmark, question, runs = self._questions[best]
        return Match(benchmark, question, found[best] / runs)

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
