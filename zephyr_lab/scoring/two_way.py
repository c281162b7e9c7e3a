"""The mean of a grid, seeds by questions, with an interval over both: other seeds, and other questions of the kind.

A value is a mean + what its seed adds + what its question adds + the rest, all drawn at random (two-way random effects,
one value a cell); `mean_squares` makes the interval of it.
"""

import numpy as np
import pandas as pd

from zephyr_lab.scoring.intervals import TAIL, Estimate, Interval, all_equal
from zephyr_lab.scoring.mean_squares import MeanSquares

TWO_WAY = "two-way 95 %"


def two_way_estimate(values: pd.DataFrame, *, unit: str = "seed", of: str = "questions") -> Estimate | None:
    """The mean of a grid, a row a seed and a column a question, with its interval over both.

    None where there is none to give: fewer than two rows or columns, rows of equal means, a grid with holes. unit, of:
    what a row and the columns are. Columns of two levels: see `mean_squares`.
    """
    seeds, questions = values.shape
    by_seed = values.mean(axis=1).to_numpy(float)
    if min(seeds, questions) < 2 or all_equal(by_seed) or not np.isfinite(values.to_numpy(float)).all():
        return None
    squares, value = mean_squares(values), float(by_seed.mean())
    half = float(squares.half_width(TAIL))
    drawn = f"{seeds} {unit}s x {questions} {of}"
    return Estimate(value, Interval(value - half, value + half), questions, TWO_WAY, seeds, drawn, squares)


def mean_squares(values: pd.DataFrame) -> MeanSquares:
    """The table of variance of a whole grid, a row a seed and a column a question, two or more of each.

    Where columns have two levels, the first names fixed sets of questions (categories): how sets differ is no chance,
    so questions and the rest vary within sets alone. That takes sets to be of one size, or the values to be weighted so
    that each set counts the same.
    """
    cells, of_set = values.to_numpy(float), _sets(values)
    seeds, questions = cells.shape
    sets = of_set.max() + 1
    sizes = np.bincount(of_set)
    by_seed_and_set = np.stack([np.bincount(of_set, row) / sizes for row in cells])
    by_question, by_set = cells.mean(axis=0), by_seed_and_set.mean(axis=0)
    beyond_set = by_question - by_set[of_set]
    rest = cells - by_seed_and_set[:, of_set] - beyond_set
    freedom = questions - sets
    return MeanSquares(
        seeds,
        questions,
        float(questions * cells.mean(axis=1).var(ddof=1)),
        float(seeds * (beyond_set**2).sum() / freedom),
        float((rest**2).sum() / ((seeds - 1) * freedom)),
        int(sets),
    )


def _sets(values: pd.DataFrame) -> np.ndarray:
    """The number of each column's set; one set for all where columns name none, or where each has one of its own."""
    if values.columns.nlevels < 2:
        return np.zeros(values.shape[1], dtype=int)
    of_set, names = pd.factorize(values.columns.get_level_values(0), use_na_sentinel=False)
    return of_set if len(names) < len(of_set) else np.zeros_like(of_set)
