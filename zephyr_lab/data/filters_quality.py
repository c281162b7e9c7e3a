"""How well a rule finds what was planted: precision and recall; and the interval of a share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zephyr_lab.scoring.intervals import Interval

_Z = 1.959963984540054  # 97.5 % point of the normal distribution


@dataclass(frozen=True, slots=True)
class Detection:
    """Dialogues (or answers) by what a rule said and what is true."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float | None:
        """Share of what the rule found that was planted; None where it found nothing."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """Share of what was planted that the rule found; None where nothing was planted."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)


def detection(found: Sequence[bool], planted: Sequence[bool]) -> Detection:
    """Compare verdicts with the truth, item by item. Raises ValueError for lists of different lengths."""
    if len(found) != len(planted):
        raise ValueError(f"found and planted must be equally long, got {len(found)} and {len(planted)}")
    pairs = list(zip(found, planted, strict=True))
    return Detection(
        true_positives=pairs.count((True, True)),
        false_positives=pairs.count((True, False)),
        false_negatives=pairs.count((False, True)),
        true_negatives=pairs.count((False, False)),
    )


def wilson_interval(successes: int, trials: int) -> Interval | None:
    """95 % interval of a share (Wilson 1927): within 0 to 1, and sensible at 0 and 1; None without a trial."""
    if trials == 0:
        return None
    share, weight = successes / trials, _Z**2 / trials
    middle = (share + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    # At the ends the bound is the end itself, which rounding would miss by a hair.
    return Interval(middle - half if successes else 0.0, middle + half if successes < trials else 1.0)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
