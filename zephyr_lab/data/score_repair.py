"""UltraFeedback's repair of 29 December 2023: overall scores of 10 that were meant as 1.

2628 completions bore a 10, many of them beside low ratings of every aspect (README of OpenBMB/UltraFeedback).
"""

from dataclasses import replace

from zephyr_lab.data.schemas import Completion

_SUSPECT = 10.0
_SURELY_LOW, _SURELY_HIGH = 2.0, 4.0  # mean ratings


def repaired_score(completion: Completion) -> float | None:
    """The overall score after the repair; None where it has to be judged again (or has none to begin with).

    A 10 becomes 1 where the mean rating is at most 2, stays where it is above 4, and is open in between; without any
    rating there is nothing to doubt it by, so it stays too.
    """
    mean = completion.mean_rating
    if completion.overall_score != _SUSPECT or mean is None or mean > _SURELY_HIGH:
        return completion.overall_score
    return 1.0 if mean <= _SURELY_LOW else None


def as_meant(completion: Completion) -> Completion:
    """The completion with a 10 that stands for a 1 read as 1; one to be judged again stays (see `is_doubtful`)."""
    meant = repaired_score(completion)
    if meant is None or meant == completion.overall_score:
        return completion
    return replace(completion, overall_score=meant)


def is_doubtful(completion: Completion) -> bool:
    """Whether the score is a 10 that the ratings (means above 2, up to 4) neither bear out nor turn into a 1."""
    return completion.overall_score is not None and repaired_score(completion) is None
