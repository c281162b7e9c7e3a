"""What a mean varies by, split into seeds and questions: its interval, its p-value, and what a larger run would give.

The squared error of the mean of a grid, seeds by questions, has two parts. What the seeds add is seen in how the seeds'
means differ: it is the t interval's, with its few degrees of freedom. What the choice of questions adds no seed can
show, for all are asked the same; it is the variance of the questions' means beyond what the rest explains.

Each part has the t quantile of its own freedom, and the two half-widths add as squares (Banerjee 1960, Sankhya 22).
That covers at least as often as it says, is never narrower than the t interval over seeds, and is that interval where
questions add nothing. Satterthwaite's degrees of freedom would be narrower, and cover too little with two or three
seeds.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, stdtrit

MOST_SEEDS, MOST_QUESTIONS = 100, 100_000  # beyond them nobody plans a run
_FARTHEST = 37.0  # normal quantile of a tail of 1e-300
Number = float | np.ndarray


class MeanSquares(NamedTuple):
    """How many seeds and questions a grid has, and the mean squares of its table of variance.

    sets: of how many fixed sets the questions come. A number of each seed without questions has `questions` 1, and its
    variance over seeds as `of_seeds`. Mean squares may be arrays, of many grids of one size.
    """

    seeds: int
    questions: int
    of_seeds: Number
    of_questions: Number = 0.0
    of_rest: Number = 0.0
    sets: int = 1

    def half_width(self, tail: float) -> Number:
        """Half of the interval that leaves `tail` beyond either end."""
        cells = self.seeds * self.questions
        beyond_rest = np.maximum(0.0, self.of_questions - self.of_rest)
        freedom = self.questions - self.sets
        return _half_width(self.seeds, freedom, self.of_seeds / cells, beyond_rest / cells, tail)

    def half_width_at(self, seeds: int, questions: int, tail: float) -> Number:
        """The half-width that a grid of another size would have, were the variances seen here the true ones."""
        of_seed = max(0.0, self.of_seeds - self.of_rest) / self.questions
        of_question = max(0.0, self.of_questions - self.of_rest) / self.seeds
        by_seeds = (of_seed + self.of_rest / questions) / seeds
        return _half_width(seeds, questions - self.sets, by_seeds, of_question / questions, tail)

    def chance_beyond(self, distance: float) -> float:
        """The probability that the mean lies more than `distance` above the true one, as the interval reckons it."""
        if distance < 0:
            return 1 - self.chance_beyond(-distance)
        low, high = 0.0, _FARTHEST  # the normal quantile runs evenly over tails from a half to almost none
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if self.half_width(float(ndtr(-middle))) >= distance else (middle, high)
        return float(ndtr(-high))

    def sizes_for(self, half_width: float, tail: float) -> tuple[int | None, int | None]:
        """How many seeds, with the questions as they are, and how many questions, with the seeds as they are, would
        give less than `half_width`; None where no number that anybody would run does.

        The variances are those seen here, which five seeds tell to within a factor of two or three.
        """

        def narrow(seeds: int, questions: int) -> bool:
            return bool(self.half_width_at(seeds, questions, tail) < half_width)

        seeds = _smallest(lambda count: narrow(count, self.questions), 2, MOST_SEEDS)
        if self.questions < 2:
            return seeds, None
        return seeds, _smallest(lambda count: narrow(self.seeds, count), self.sets + 1, MOST_QUESTIONS)


def _half_width(seeds: int, freedom: int, of_seeds: Number, of_questions: Number, tail: float) -> Number:
    """freedom: of the questions; of_seeds, of_questions: the squared standard errors that they bring."""
    squared = stdtrit(seeds - 1, tail) ** 2 * of_seeds
    if freedom > 0:
        squared = squared + stdtrit(freedom, tail) ** 2 * of_questions
    return np.sqrt(squared)


def _smallest(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least number from `low` to `high` at which `holds` is true, and so at all above; None where it never is."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
