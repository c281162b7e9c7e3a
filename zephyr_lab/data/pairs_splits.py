"""Train and test splits of a binarised set, drawn as the published sets were."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PUBLISHED_TEST_ROWS = 2000
PUBLISHED_SEED = 42


@dataclass(frozen=True, slots=True)
class PairSplits:
    """Places of the rows in each split. The sft and gen splits of training hold the same rows as train_prefs; those of
    the test are the first half of test_prefs. A gen row lacks the last assistant message."""

    train_prefs: tuple[int, ...]
    test_prefs: tuple[int, ...]

    @property
    def test_sft(self) -> tuple[int, ...]:
        # That it is half of them is published; that it is the first half is ours (the draw is random already).
        return self.test_prefs[: len(self.test_prefs) // 2]

    def named(self) -> dict[str, tuple[int, ...]]:
        """All six splits under their published names."""
        return {
            "train_prefs": self.train_prefs,
            "train_sft": self.train_prefs,
            "train_gen": self.train_prefs,
            "test_prefs": self.test_prefs,
            "test_sft": self.test_sft,
            "test_gen": self.test_sft,
        }


def split_pairs(count: int, *, test: int = PUBLISHED_TEST_ROWS, seed: int = PUBLISHED_SEED) -> PairSplits:
    """Split `count` rows at random: the same rows as `Dataset.train_test_split(test_size=test, seed=seed)`.

    Raises ValueError where no row would be left to train on.
    """
    if not 0 < test < count:
        raise ValueError(f"test must be from 1 to {count - 1} of {count} pairs, got {test}")
    import numpy

    order = numpy.random.default_rng(seed).permutation(count).tolist()
    return PairSplits(train_prefs=tuple(order[test:]), test_prefs=tuple(order[:test]))


def without_last_answer(row: dict[str, Any], columns: Sequence[str] = ("messages",)) -> dict[str, Any]:
    """A row of a gen split: the last assistant message of each of `columns` taken away."""
    return row | {
        column: row[column][:-1] if row[column] and row[column][-1]["role"] == "assistant" else row[column]
        for column in columns
    }
