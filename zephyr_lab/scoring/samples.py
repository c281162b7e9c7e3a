"""Are two sets of samples from one distribution? Total variation and the chi-square test, of counts. No torch."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from scipy import stats

LEAST_EXPECTED = 5.0  # the textbook rule: below it the chi-square approximation is poor


def total_variation(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> float:
    """Half the sum of |share of ours - share of theirs| over all values: 0 for equal shares, 1 for none in common.

    Samples of one distribution differ too, by chance; compare with that of two runs alike. Raises ValueError for an
    empty side.
    """
    first, second = _shares(ours), _shares(theirs)
    return sum(abs(first.get(value, 0.0) - second.get(value, 0.0)) for value in first.keys() | second.keys()) / 2


def chi_square_p(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> float:
    """p-value of the chi-square test that both sides come from one distribution; 1 where all values are the same one.

    Values that either side would be expected to show fewer than five times are counted together.
    """
    if not ours or not theirs:
        raise ValueError(f"each side needs samples, got {len(ours)} and {len(theirs)}")
    counts = [Counter(ours), Counter(theirs)]
    both = counts[0] + counts[1]
    share = min(len(ours), len(theirs)) / (len(ours) + len(theirs))
    common = [value for value, count in both.items() if count * share >= LEAST_EXPECTED]
    table = [[side[value] for value in common] for side in counts]
    rest = [sum(side.values()) - sum(row) for side, row in zip(counts, table, strict=True)]
    columns = np.array([[*row, left] for row, left in zip(table, rest, strict=True)])
    columns = columns[:, columns.sum(axis=0) > 0]
    if columns.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(columns, correction=False).pvalue)


def _shares(samples: Sequence[Hashable]) -> dict[Hashable, float]:
    if not samples:
        raise ValueError("there are no samples to compare")
    return {value: count / len(samples) for value, count in Counter(samples).items()}
