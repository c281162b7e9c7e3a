"""95 % intervals: Student's t over seeds, the bootstrap over questions. One number alone has none (None).

Two sources of chance. A retrained figure varies with the seed and with the questions: where both are at hand,
`two_way`; where each seed gives one number, few, independent, roughly normal values, so t. A recomputed figure comes
from one run and varies with the questions asked: many values, dependent within a question (both turns), so whole
questions are drawn again (Efron and Tibshirani 1993, chapter 13).

Neither can see what it never drew. Equal values have no spread, and a share with few wins or few losses has hardly
any, so both would promise a certainty that is not there. Equal values therefore have no interval, unless the ends of
their scale are known; then `constant_interval` says how far the mean may lie from them. A share with fewer than `FEW`
wins or losses gets Clopper and Pearson's interval and not Wilson's: it covers at least 95 % of the time for every
share and count, where Wilson's falls to 84 % next to the ends, and it also holds for weighted wins between 0 and 1.
All other shares keep the bootstrap.
"""

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, stdtrit

from zephyr_lab.scoring.mean_squares import MeanSquares

RESAMPLES = 10_000
CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2  # beyond either end of an interval
FEW = 10  # wins or losses; with fewer the bootstrap of a share covers too little
T, BOOTSTRAP, EXACT = "t 95 %", "bootstrap 95 %", "Clopper-Pearson 95 %"
ALL_EQUAL, ONE_QUESTION = "all equal, no interval", "one question, no interval"
_EQUAL = 1e-12  # relative: equal values whose means differ in the last bits
_DRAWS_AT_ONCE = 2_000_000
Sums = tuple[np.ndarray, np.ndarray]  # of each question: the sum of its values, how many there are


class Interval(NamedTuple):
    low: float
    high: float


class Scale(NamedTuple):
    """The lowest and the highest value that an observation can have."""

    low: float
    high: float


SHARE, PERCENT = Scale(0.0, 1.0), Scale(0.0, 100.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval: from scorer to claim, ledger, table, figure and page it keeps this form.

    value: None where nothing was measured. interval: None where there is none to give; its ends are the value for a
    count, and where all seeds gave the same. n: values that it is a mean of; seeds: models that were trained for it;
    of: what chance drew ("3 seeds", "80 questions"); method: names the interval, or says why there is none; squares:
    what it varies by, where a grid of seeds and questions was at hand.

    >>> Estimate(6.86, Interval(6.43, 7.26), 160, seeds=3).text(".1f")
    '6.9 [6.4, 7.3]'
    """

    value: float | None
    interval: Interval | None
    n: int | None
    method: str = BOOTSTRAP
    seeds: int | None = None
    of: str = ""
    squares: MeanSquares | None = field(default=None, compare=False, repr=False)

    @property
    def spread(self) -> float:
        """The width of the interval, 0 where there is none."""
        return 0.0 if self.interval is None else self.interval.high - self.interval.low

    @property
    def basis(self) -> str:
        """What the interval is: "3 seeds, t 95 %"."""
        return ", ".join(filter(None, (self.of, self.method)))

    @property
    def counts(self) -> str:
        """What it was counted over: "n 160, 3 seeds"."""
        seeds = {None: "", 1: "1 seed"}.get(self.seeds, f"{self.seeds} seeds")
        return ", ".join(filter(None, ("" if self.n is None else f"n {self.n}", seeds)))

    def text(self, digits: str = ".2f", *, unit: str = "") -> str:
        """`6.86 [6.43, 7.26]`, the numbers formatted by `digits`; no ends where they are the value or not known."""
        ends = f" [{self.interval.low:{digits}}, {self.interval.high:{digits}}]" if self.spread > 0 else ""
        return f"{self.value:{digits}}{unit}{ends}"


def t_estimate(values: ArrayLike, *, of: str, n: int | None = None, seeds: int | None = None) -> Estimate:
    """The mean of two or more independent values with its t interval; equal ones: the ends are the value.

    of: what the values are ("3 seeds"); n: their number, if it is not the number of values.
    """
    value, interval = float(np.mean(values)), t_interval(values)
    low, high = interval or (value, value)
    ends = Interval(min(low, value), max(high, value))  # a mean of equal values may differ from them in the last bit
    return Estimate(value, ends, len(values) if n is None else n, T if interval else ALL_EQUAL, seeds, of)


def t_interval(values: ArrayLike) -> Interval | None:
    """Student's t interval of the mean of independent values, one a seed; None for fewer than two, and for equal ones.

    Raises ValueError where a value is not finite.
    """
    values = _finite(values)
    if len(values) < 2 or all_equal(values):
        return None
    half = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(values.mean() - half), float(values.mean() + half))


def paired_t_interval(ours: ArrayLike, theirs: ArrayLike) -> Interval | None:
    """t interval of the mean of ours - theirs, paired by place (seed by seed); None as `t_interval`."""
    if len(ours) != len(theirs):
        raise ValueError(f"pairs need as many values on both sides, got {len(ours)} and {len(theirs)}")
    return t_interval(_finite(ours) - _finite(theirs))


def all_equal(values: ArrayLike, *, size: float = 0.0) -> bool:
    """Whether no value differs from another by more than rounding; true of a single value and of none.

    `size`: of the numbers that the values were reckoned from, where that is larger than theirs (differences).
    """
    values = np.asarray(values, dtype=float)
    return not len(values) or bool(np.ptp(values) <= _EQUAL * max(size, np.abs(values).max()))


def clopper_pearson(successes: float | int, trials: int) -> Interval:
    """The exact interval of a share, within 0 to 1: it covers at least as often as it says, at the ends too.

    `successes` need not be whole: weighted wins between 0 and 1 vary less than whole ones of the same mean. Raises
    ValueError without a trial, or where successes are not from 0 to `trials`.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"a share needs at least one trial and successes within them, got {successes} of {trials}")
    failures = trials - successes
    low = 0.0 if successes == 0 else float(betaincinv(successes, failures + 1, TAIL))
    high = 1.0 if failures == 0 else float(betaincinv(successes + 1, failures, 1 - TAIL))
    return Interval(low, high)


def interval_of_few(share: float, trials: int) -> Interval | None:
    """`clopper_pearson` where there are fewer than `FEW` successes or failures; None where there are more of both."""
    successes = trials * min(1.0, max(0.0, share))
    if min(successes, trials - successes) >= FEW:
        return None
    return clopper_pearson(successes, trials)


def constant_interval(value: float, trials: int, scale: Scale) -> Interval:
    """How far the mean may lie from `value` where each of `trials` independent observations had that value.

    Another value may have the probability q, and was not seen: (1 - q)^trials = 0.025. It may lie
    anywhere on the scale, so the mean lies within q of the way to either end. At an end of the scale this is Clopper
    and Pearson's interval. Raises ValueError for a value outside the scale, or no trial.
    """
    if trials < 1 or not scale.low <= value <= scale.high:
        raise ValueError(f"needs a trial and a value from {scale.low:g} to {scale.high:g}, got {trials} of {value}")
    unseen = 1 - TAIL ** (1 / trials)
    return Interval(value - unseen * (value - scale.low), value + unseen * (scale.high - value))


def bootstrap_interval(
    values: ArrayLike, questions: Collection[Hashable], *, generator: np.random.Generator, resamples: int = RESAMPLES
) -> Interval | None:
    """Percentile interval of the pooled mean of `values`, (row,), with whole questions drawn again.

    `questions`, (row,), names the question of each row; all rows of a question are drawn together. None for
    fewer than two questions, and where all have the same mean: drawing again cannot tell what else there is. With ten
    questions (a category) it is a little too narrow, as all bootstraps are.
    """
    return ratio_interval(_by_question([(values, questions)]), generator, resamples)


def bootstrap_difference(
    ours: ArrayLike,
    our_questions: Collection[Hashable],
    theirs: ArrayLike,
    their_questions: Collection[Hashable],
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """As `bootstrap_interval`, for mean(ours) - mean(theirs): the same questions are drawn for both sides.

    None where no draw differs from another.
    """
    sides = _by_question([(ours, our_questions), (theirs, their_questions)])
    return ratio_interval(sides, generator, resamples)


def mean_estimate(
    values: ArrayLike,
    questions: Collection[Hashable],
    *,
    seed: int,
    resamples: int = RESAMPLES,
    scale: Scale | None = None,
) -> Estimate:
    """The pooled mean with its bootstrap interval over questions; `constant_interval` where all questions are equal.

    `scale`: what a value can be; without it equal questions have no interval. Each call draws from a generator of its
    own, so that a figure does not depend on what else was computed. Raises ValueError for a value outside `scale`.
    """
    values = _finite(values)
    if not len(values):
        return Estimate(None, None, 0, "no value")
    _require_within(values, scale)
    value, rows = float(np.mean(values)), len(values)
    interval = bootstrap_interval(values, questions, generator=np.random.default_rng(seed), resamples=resamples)
    if interval is not None:
        return Estimate(value, interval, rows)
    asked = len(set(questions))
    if asked < 2:
        return Estimate(value, None, rows, ONE_QUESTION)
    if scale is None:
        return Estimate(value, None, rows, ALL_EQUAL)
    inside = min(max(value, scale.low), scale.high)
    return Estimate(value, constant_interval(inside, asked, scale), rows, EXACT)


def share_estimate(
    values: ArrayLike, questions: Collection[Hashable], *, seed: int, resamples: int = RESAMPLES, scale: Scale = SHARE
) -> Estimate:
    """As `mean_estimate`, of wins: values from `scale.low` (lost) to `scale.high` (won), draws and weights between.

    Clopper and Pearson's interval over questions where there are fewer than `FEW` wins or losses, in questions; so it
    is with fewer than 20 questions whatever the share.
    """
    plain = mean_estimate(values, questions, seed=seed, resamples=resamples, scale=scale)
    asked = len(set(questions))
    if plain.value is None or asked < 2:
        return plain
    width = scale.high - scale.low
    few = interval_of_few((plain.value - scale.low) / width, asked)
    if few is None:
        return plain
    return Estimate(plain.value, Interval(scale.low + width * few.low, scale.low + width * few.high), plain.n, EXACT)


def _require_within(values: np.ndarray, scale: Scale | None) -> None:
    if scale is None:
        return
    rounding = 1e-9 * (scale.high - scale.low)
    if values.min() < scale.low - rounding or values.max() > scale.high + rounding:
        raise ValueError(
            f"values must be from {scale.low:g} to {scale.high:g}, got {values.min():g} to {values.max():g}"
        )


def _by_question(sides: list[tuple[ArrayLike, Collection[Hashable]]]) -> list[Sums]:
    """For each side the sum and the number of its values on each question that any side has."""
    for values, questions in sides:
        if len(values) != len(questions):
            raise ValueError(f"each value needs its question, got {len(values)} values, {len(questions)} questions")
    places = numbered([question for _, questions in sides for question in questions])
    count = 1 + int(places.max(initial=-1))
    own = np.split(places, np.cumsum([len(questions) for _, questions in sides])[:-1])
    return [
        (np.bincount(where, _finite(values), minlength=count), np.bincount(where, minlength=count))
        for where, (values, _) in zip(own, sides, strict=True)
    ]


def ratio_interval(
    sides: list[Sums], generator: np.random.Generator, resamples: int, *, tail: float = 100 * TAIL
) -> Interval | None:
    """The percentile interval of sum / count of the first side, less the second's where there is one.

    sides: the sum and the count of each question; questions are drawn again, the same for both sides; tail: percent
    beyond either end. None without two questions, or where no draw differs from another.
    """
    questions = len(sides[0][0])
    if questions < 2:
        return None
    ratios = np.empty(resamples)
    step = max(1, _DRAWS_AT_ONCE // questions)
    for start in range(0, resamples, step):
        drawn = generator.integers(questions, size=(min(step, resamples - start), questions))
        with np.errstate(invalid="ignore"):  # no value drawn on one side: 0 / 0, left out below
            first, *others = (totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for totals, counts in sides)
        ratios[start : start + len(drawn)] = first - others[0] if others else first
    size = max(float(np.abs(totals).sum() / counts.sum()) for totals, counts in sides)
    if all_equal(ratios[~np.isnan(ratios)], size=size):
        return None
    low, high = np.nanpercentile(ratios, [tail, 100 - tail])
    return Interval(float(low), float(high))


def numbered(names: Collection[Hashable]) -> np.ndarray:
    """A number for each name, in the order of first appearance; equal names share one."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=int)


def _finite(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(
            f"expected a row of finite numbers, got shape {array.shape}, finite: {np.isfinite(array).all()}"
        )
    return array
