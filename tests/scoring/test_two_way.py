"""Intervals over seeds and questions: the table of variance by loops, the t interval as the least, sizes of runs."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from zephyr_lab.scoring.intervals import TAIL, t_interval
from zephyr_lab.scoring.mean_squares import MeanSquares
from zephyr_lab.scoring.two_way import mean_squares, two_way_estimate

POSITIVE = st.floats(1e-3, 1e3)
SQUARES = st.builds(MeanSquares, st.integers(2, 12), st.integers(1, 400), POSITIVE, POSITIVE, POSITIVE, st.just(1))


def grid(seeds=4, questions=7, *, seed=0):
    draw = np.random.default_rng(seed).normal
    return pd.DataFrame(draw(0, 1, (seeds, 1)) + draw(0, 1, (1, questions)) + draw(0, 1, (seeds, questions)))


def test_the_table_of_variance_by_loops():
    values = grid()
    x, (rows, columns) = values.to_numpy(), values.shape
    mean = sum(x[s, q] for s in range(rows) for q in range(columns)) / (rows * columns)
    by_seed = [sum(x[s]) / columns for s in range(rows)]
    by_question = [sum(x[:, q]) / rows for q in range(columns)]
    between_seeds = sum(columns * (one - mean) ** 2 for one in by_seed) / (rows - 1)
    between_questions = sum(rows * (one - mean) ** 2 for one in by_question) / (columns - 1)
    rest = sum((x[s, q] - by_seed[s] - by_question[q] + mean) ** 2 for s in range(rows) for q in range(columns))
    expected = (rows, columns, between_seeds, between_questions, rest / ((rows - 1) * (columns - 1)), 1)
    assert mean_squares(values) == pytest.approx(expected)


def test_within_sets_the_table_is_the_mean_of_the_sets_own():
    """Of sets of one size: questions and rest as in each set alone, seeds as if there were none."""
    values = grid(3, 8)
    sets = values.set_axis(pd.MultiIndex.from_product([["facts", "skills"], range(4)]), axis=1)
    alone = [mean_squares(sets[name]) for name in ("facts", "skills")]
    shown = mean_squares(sets)
    assert shown.of_questions == pytest.approx(np.mean([one.of_questions for one in alone]))
    assert shown.of_rest == pytest.approx(np.mean([one.of_rest for one in alone]))
    assert shown.of_seeds == pytest.approx(mean_squares(values).of_seeds) and shown.sets == 2
    own = values.set_axis(pd.MultiIndex.from_arrays([range(8), range(8)]), axis=1)  # each a set of its own: no set
    assert mean_squares(own) == pytest.approx(mean_squares(values))


def test_two_half_widths_add_as_squares():
    values = grid()
    squares, shown = mean_squares(values), two_way_estimate(values)
    of_seeds = student.ppf(0.975, 3) ** 2 * values.mean(axis=1).var(ddof=1) / 4
    of_questions = student.ppf(0.975, 6) ** 2 * (squares.of_questions - squares.of_rest) / 28
    assert shown.spread / 2 == pytest.approx(math.sqrt(of_seeds + of_questions))
    assert (shown.value, shown.n, shown.seeds) == (pytest.approx(values.to_numpy().mean()), 7, 4)
    assert shown.basis == "4 seeds x 7 questions, two-way 95 %"


def test_questions_that_add_nothing_leave_the_t_interval():
    values = grid()
    alike = values - values.mean(axis=0) + values.to_numpy().mean()  # all questions of one mean
    assert two_way_estimate(alike).interval == pytest.approx(t_interval(alike.mean(axis=1)))


@given(st.integers(2, 6), st.integers(2, 30), st.integers(0, 99))
def test_it_is_never_narrower_than_the_t_interval(seeds, questions, seed):
    values = grid(seeds, questions, seed=seed)
    low, high = t_interval(values.mean(axis=1))
    assert two_way_estimate(values).spread >= (high - low) * (1 - 1e-9)


def test_order_sign_and_unit_change_what_they_should():
    values = grid()
    shown, half = two_way_estimate(values), two_way_estimate(values).spread / 2
    shuffled = values.sample(frac=1, random_state=0).sample(frac=1, axis=1, random_state=1)
    assert two_way_estimate(shuffled).interval == pytest.approx(shown.interval)
    assert two_way_estimate(-values).interval == pytest.approx((-shown.value - half, -shown.value + half))
    assert two_way_estimate(100 * values).spread == pytest.approx(100 * shown.spread)


def test_how_fixed_sets_of_questions_differ_is_no_chance():
    values = grid(3, 8)
    sets = values.set_axis(pd.MultiIndex.from_product([["facts", "skills"], range(4)]), axis=1)
    apart = sets + ([0.0] * 4 + [50.0] * 4)
    shown = two_way_estimate(apart)
    assert shown.value == pytest.approx(values.to_numpy().mean() + 25)
    assert shown.spread == pytest.approx(two_way_estimate(sets).spread)
    assert shown.spread < two_way_estimate(apart.set_axis(range(8), axis=1)).spread / 10


@pytest.mark.parametrize(
    "values", [grid(1, 7), grid(4, 1), pd.DataFrame([[1.0, 3.0], [3.0, 1.0]]), grid().mask(grid() > 1)]
)
def test_one_seed_one_question_equal_means_and_holes_have_no_such_interval(values):
    assert two_way_estimate(values) is None


# --- what else the mean squares say ----------------------------------------------------------------------------------


@given(SQUARES, st.floats(0.01, 10))
def test_a_distance_beyond_the_interval_has_a_chance_below_its_tail(squares, distance):
    half = squares.half_width(TAIL)
    if abs(distance / half - 1) > 1e-6:
        assert (squares.chance_beyond(distance) < TAIL) == (distance > half)
    assert squares.chance_beyond(-distance) == pytest.approx(1 - squares.chance_beyond(distance))


def test_without_questions_the_chance_is_students():
    squares = MeanSquares(5, 1, 2.0)
    for distance in (0.0, 0.3, 1.0, 4.0):
        assert squares.chance_beyond(distance) == pytest.approx(student.sf(distance / math.sqrt(2 / 5), 4), rel=1e-6)


@given(SQUARES, st.floats(1e-3, 10))
def test_the_sizes_are_the_least_that_are_enough(squares, needed):
    seeds, questions = squares.sizes_for(needed, TAIL)
    if seeds is not None:
        assert squares.half_width_at(seeds, squares.questions, TAIL) < needed
        assert seeds == 2 or squares.half_width_at(seeds - 1, squares.questions, TAIL) >= needed
    if questions is not None:
        assert squares.half_width_at(squares.seeds, questions, TAIL) < needed
        assert questions == 2 or squares.half_width_at(squares.seeds, questions - 1, TAIL) >= needed
    assert squares.questions > 1 or questions is None


def test_a_run_of_the_same_size_has_the_same_half_width():
    squares = MeanSquares(5, 80, 9.0, 6.0, 2.0)  # each part is there, so none is cut off at 0
    assert squares.half_width_at(5, 80, TAIL) == pytest.approx(squares.half_width(TAIL))
