"""How far two judges agree: the share of equal labels, Cohen's kappa, and the majority of several votes."""

from collections import Counter
from collections.abc import Hashable, Sequence


def agreement(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """The share of items, (item,), that both label alike. Raises ValueError for none, or unequal numbers."""
    if not first or len(first) != len(second):
        raise ValueError(f"two judges need the same items, at least one; got {len(first)} and {len(second)} labels")
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """(observed - chance) / (1 - chance), chance being the agreement of two judges who guess with the same shares.

    Cohen 1960, unweighted; 1 is full agreement, 0 is chance. Raises ValueError as `agreement` does, and where both
    judges use one and the same label only, which leaves kappa undefined.
    """
    observed = agreement(first, second)
    shares, others = Counter(first), Counter(second)
    chance = sum(count * others[label] for label, count in shares.items()) / len(first) ** 2
    if chance == 1:
        raise ValueError(f"kappa is undefined where both judges only ever say {first[0]!r}")
    return (observed - chance) / (1 - chance)


def majority(*votes: Sequence[Hashable]) -> list[Hashable | None]:
    """The label that more than half of the judges give each item, None where no label does."""
    winners = []
    for labels in zip(*votes, strict=True):
        label, count = Counter(labels).most_common(1)[0]
        winners.append(label if 2 * count > len(labels) else None)
    return winners
