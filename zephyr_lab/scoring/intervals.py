"""95 % intervals: Student's t over seeds, the bootstrap over questions. One number alone has none (None).

Two sources of chance, two methods. A retrained figure varies with the seed: few, independent, roughly normal
values, so t. A recomputed figure comes from one run and varies with the questions asked: many values, dependent
within a question (both turns), so whole questions are drawn again (Efron and Tibshirani 1993, chapter 13).
"""

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

RESAMPLES = 10_000
_DRAWS_AT_ONCE = 2_000_000
_Sums = tuple[np.ndarray, np.ndarray]  # of each question: the sum of its values, how many there are


class Interval(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of `n` values, None where n is 0, with its interval, None where there is none to give."""

    value: float | None
    interval: Interval | None
    n: int


def t_interval(values: ArrayLike, *, confidence: float = 0.95) -> Interval | None:
    """Student's t interval of the mean of independent values, one a seed; None for fewer than two.

    Raises ValueError where a value is not finite.
    """
    values = _finite(values)
    if len(values) < 2:
        return None
    half = stdtrit(len(values) - 1, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(values.mean() - half), float(values.mean() + half))


def paired_t_interval(ours: ArrayLike, theirs: ArrayLike, *, confidence: float = 0.95) -> Interval | None:
    """t interval of the mean of ours - theirs, paired by place (seed by seed); None for fewer than two pairs."""
    if len(ours) != len(theirs):
        raise ValueError(f"pairs need as many values on both sides, got {len(ours)} and {len(theirs)}")
    return t_interval(_finite(ours) - _finite(theirs), confidence=confidence)


def bootstrap_interval(
    values: ArrayLike,
    questions: Collection[Hashable],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Interval | None:
    """Percentile interval of the pooled mean of `values`, (row,), with whole questions drawn again.

    `questions`, (row,), names the question of each row; all rows of a question are drawn together. None for
    fewer than two questions. With ten questions (a category) it is a little too narrow, as all bootstraps are.
    """
    return _percentiles(_by_question([(values, questions)]), generator, resamples, confidence)


def bootstrap_difference(
    ours: ArrayLike,
    our_questions: Collection[Hashable],
    theirs: ArrayLike,
    their_questions: Collection[Hashable],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Interval | None:
    """As `bootstrap_interval`, for mean(ours) - mean(theirs): the same questions are drawn for both sides."""
    sides = _by_question([(ours, our_questions), (theirs, their_questions)])
    return _percentiles(sides, generator, resamples, confidence)


def mean_estimate(
    values: ArrayLike,
    questions: Collection[Hashable],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The pooled mean with its bootstrap interval over questions.

    Each call draws from a generator of its own, so that a figure does not depend on what else was computed.
    """
    if len(values) == 0:
        return Estimate(None, None, 0)
    generator = np.random.default_rng(seed)
    interval = bootstrap_interval(values, questions, generator=generator, resamples=resamples)
    return Estimate(float(np.mean(_finite(values))), interval, len(values))


def _by_question(sides: list[tuple[ArrayLike, Collection[Hashable]]]) -> list[_Sums]:
    """For each side the sum and the number of its values on each question that any side has."""
    places: dict[Hashable, int] = {}
    for values, questions in sides:
        if len(values) != len(questions):
            raise ValueError(f"each value needs its question, got {len(values)} values, {len(questions)} questions")
        for question in questions:
            places.setdefault(question, len(places))
    sums = []
    for values, questions in sides:
        where = np.array([places[question] for question in questions], dtype=int)
        totals = np.bincount(where, _finite(values), minlength=len(places))
        sums.append((totals, np.bincount(where, minlength=len(places))))
    return sums


def _percentiles(
    sides: list[_Sums], generator: np.random.Generator, resamples: int, confidence: float
) -> Interval | None:
    """The percentile interval of the first side's pooled mean, less the second's where there is one."""
    questions = len(sides[0][0])
    if questions < 2:
        return None
    means = np.empty(resamples)
    step = max(1, _DRAWS_AT_ONCE // questions)
    for start in range(0, resamples, step):
        drawn = generator.integers(questions, size=(min(step, resamples - start), questions))
        with np.errstate(invalid="ignore"):  # no value drawn on one side: 0 / 0, left out below
            first, *others = (totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for totals, counts in sides)
        means[start : start + len(drawn)] = first - others[0] if others else first
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(means, [tail, 100 - tail])
    return Interval(float(low), float(high))


def _finite(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(
            f"expected a row of finite numbers, got shape {array.shape}, finite: {np.isfinite(array).all()}"
        )
    return array
