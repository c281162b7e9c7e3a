"""What a way of making pairs does to a set (ties, mean scores, positions), and the published sets' split."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from zephyr_lab.data.pairs import NoPair, Pair


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """Counts over prompts and pairs; scores are those that the chosen answer was picked by.

    `ties_at_top` and `all_equal` count prompts with at least two scored completions. `chosen_positions[i]` and
    `rejected_positions[i]`: pairs whose answer stood at place i of its row. Means are None without a pair.

    `identical_pairs`: pairs of one text twice, `identical_dropped` those that were dropped for it. `tens_meant_as_one`
    counts completions whose overall score is a 10 for a 1 (`data.pairs`); `doubtful_tens` those that stay a 10
    and would have to be judged again.
    """

    prompts: int
    pairs: int
    ties_at_top: int
    all_equal: int
    mean_chosen: float | None
    mean_rejected: float | None
    equal_pairs: int
    chosen_positions: list[int]
    rejected_positions: list[int]
    identical_pairs: int
    identical_dropped: int
    tens_meant_as_one: int
    doubtful_tens: int


@dataclass(slots=True)
class PairCounts:
    """Gathers outcomes one at a time; `unread` rows, which are not scored prompts, count as prompts too."""

    prompts: int = 0
    unread: int = 0
    ties_at_top: int = 0
    all_equal: int = 0
    longest: int = 0
    pairs: list[tuple[int, int, float, float]] = field(default_factory=list)  # both places, both scores
    identical: int = 0
    dropped: int = 0
    meant_as_one: int = 0
    doubtful: int = 0

    def add(self, outcome: Pair | NoPair) -> None:
        self.prompts += 1
        self.longest = max(self.longest, len(outcome.prompt.completions))
        if len(outcome.scores) >= 2:
            self.ties_at_top += outcome.scores.count(max(outcome.scores)) >= 2
            self.all_equal += len(set(outcome.scores)) == 1
        self.meant_as_one += outcome.tens.meant_as_one
        self.doubtful += outcome.tens.doubtful
        if isinstance(outcome, NoPair):
            self.dropped += outcome.is_identical
        else:
            self.identical += outcome.is_identical
            self.pairs.append((outcome.chosen, outcome.rejected, outcome.score_chosen, outcome.score_rejected))

    def statistics(self) -> PairStatistics:
        return PairStatistics(
            prompts=self.prompts + self.unread,
            pairs=len(self.pairs),
            ties_at_top=self.ties_at_top,
            all_equal=self.all_equal,
            mean_chosen=_mean([chosen for _, _, chosen, _ in self.pairs]),
            mean_rejected=_mean([rejected for *_, rejected in self.pairs]),
            equal_pairs=sum(chosen == rejected for _, _, chosen, rejected in self.pairs),
            chosen_positions=_counts([place for place, *_ in self.pairs], self.longest),
            rejected_positions=_counts([place for _, place, *_ in self.pairs], self.longest),
            identical_pairs=self.identical,
            identical_dropped=self.dropped,
            tens_meant_as_one=self.meant_as_one,
            doubtful_tens=self.doubtful,
        )


def pair_statistics(outcomes: Iterable[Pair | NoPair]) -> PairStatistics:
    """Statistics of the outcomes of `pairs.binarise`."""
    counts = PairCounts()
    for outcome in outcomes:
        counts.add(outcome)
    return counts.statistics()


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _counts(places: list[int], length: int) -> list[int]:
    counts = Counter(places)
    return [counts[place] for place in range(length)]


PUBLISHED_TEST_ROWS = 2000
PUBLISHED_SEED = 42


@dataclass(frozen=True, slots=True)
class PairSplits:
    """Positions of the rows in each split. The published sft and gen splits hold the rows of train_prefs and of
    test_sft; a gen row lacks the last assistant message."""

    train_prefs: tuple[int, ...]
    test_prefs: tuple[int, ...]

    @property
    def test_sft(self) -> tuple[int, ...]:
        # That it is half of them is published; that it is the first half is ours (the draw is random already).
        return self.test_prefs[: len(self.test_prefs) // 2]


def split_pairs(count: int, *, test: int = PUBLISHED_TEST_ROWS, seed: int = PUBLISHED_SEED) -> PairSplits:
    """Split `count` rows at random: the same rows as `Dataset.train_test_split(test_size=test, seed=seed)`.

    Raises ValueError where no row would be left to train on.
    """
    if not 0 < test < count:
        raise ValueError(f"test must be from 1 to {count - 1} of {count} pairs, got {test}")
    import numpy

    order = numpy.random.default_rng(seed).permutation(count).tolist()
    return PairSplits(train_prefs=tuple(order[test:]), test_prefs=tuple(order[:test]))
