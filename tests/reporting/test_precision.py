"""p of a claim at its edge, and the half-width that its margin needs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from zephyr_lab.reporting import claims, precision
from zephyr_lab.reporting.claims import Claim, Part
from zephyr_lab.scoring.intervals import Estimate, Interval, t_estimate
from zephyr_lab.scoring.mean_squares import MeanSquares

SAMPLES = st.lists(st.floats(-1, 1), min_size=3, max_size=6, unique=True)
DIRECTIONS = st.sampled_from(claims.DIRECTIONS)


def estimate(values) -> Estimate:
    return t_estimate(values, of=f"{len(values)} seeds", seeds=len(values))


def claim(*parts: Part, **more) -> Claim:
    first, *also = parts
    fields = {name: getattr(first, name) for name in ("metric", "direction", "margin", "margin_reason")}
    return Claim("Z1", "s", "directional", "t", "P", **fields, also=tuple(also), **more)


def part(direction="higher", margin=0.1, metric="m") -> Part:
    return Part(metric, direction, margin, "r")


@pytest.mark.parametrize(
    ("direction", "edge"), [("higher", 0.1), ("lower", -0.1), ("not lower", -0.1), ("not higher", 0.1)]
)
def test_the_edge_is_where_holding_ends(direction, edge):
    assert part(direction).edge == edge


def test_p_of_one_part_is_students_at_the_margin():
    values = [0.3, 0.5, 0.2, 0.4, 0.35]
    distance = (0.35 - 0.1) / (estimate(values).spread / 2 / student.ppf(0.975, 4))
    assert precision.p_value([part()], [estimate(values)]) == pytest.approx(2 * student.sf(distance, 4), rel=1e-6)


@given(SAMPLES, DIRECTIONS, st.floats(0, 0.5))
def test_p_of_one_part_is_small_exactly_where_the_interval_leaves_the_edge_out(values, direction, margin):
    measured, asked = estimate(values), part(direction, margin)
    low, high = measured.interval
    if measured.spread > 1e-3 and min(abs(asked.edge - low), abs(asked.edge - high)) > 1e-6:
        p, verdict = (
            precision.p_value([asked], [measured]),
            claims.verdict(measured, direction=direction, margin=margin),
        )
        assert (p < 0.05) == (verdict in ("reproduced", "ruled out", "contradicted"))


def test_all_parts_must_hold_and_one_that_fails_is_enough():
    sure, likely, against = ([one + step for step in (-0.02, 0, 0.02)] for one in (0.9, 0.2, -0.9))
    of = {name: estimate(values) for name, values in (("sure", sure), ("likely", likely), ("against", against))}
    alone = {name: precision.p_value([part()], [one]) for name, one in of.items()}
    both = [part(metric="m"), part(metric="n")]
    assert precision.p_value(both, [of["sure"], of["likely"]]) == pytest.approx(max(alone["sure"], alone["likely"]))
    assert precision.p_value(both, [of["sure"], of["against"]]) == pytest.approx(2 * alone["against"])


def test_a_count_takes_no_part():
    count, values = Estimate(0.9, Interval(0.9, 0.9), 3, "a count"), estimate([0.3, 0.5, 0.4])
    assert precision.p_value([part()], [count]) is None
    assert precision.p_value([part(), part(metric="n")], [count, values]) == precision.p_value([part()], [values])


def test_what_the_ledger_says_of_the_part_that_decided():
    wide, narrow = estimate([0.0, 0.4, 0.8]), estimate([0.3, 0.31, 0.32])
    told = precision.of_verdict(claim(part(), part(metric="n"), one="one teacher"), [narrow, wide], "not resolved", 1)
    assert (told["part"], told["one"], told["basis"]) == ("n", "one teacher", "3 seeds, t 95 %")
    assert told["half_width"] == pytest.approx(wide.spread / 2) and told["needs"] == 0.1
    # s = 0.4: the half-width t s / sqrt(S) first falls below 0.1 at 64 seeds
    least = next(n for n in range(2, 200) if student.ppf(0.975, n - 1) * 0.4 / math.sqrt(n) < 0.1)
    assert told["reached"] is False and told["more"] == f"about {least} seeds in place of 3"
    assert precision.of_verdict(claim(part()), [wide], "contradicted", 0)["more"] is None  # nothing is open
    told = precision.of_verdict(claim(part()), [narrow], "reproduced", 0)
    assert told["reached"] is True and told["more"] is None and told["part"] is None and told["one"] is None
    assert precision.of_verdict(claim(part(margin=0.0)), [wide], "not resolved", 0)["needs"] is None


def test_questions_are_named_where_they_would_help():
    squares = MeanSquares(5, 80, 0.2, 4.0, 0.1)  # the questions bring nearly all
    grid = Estimate(0.1, Interval(-0.1, 0.3), 80, "two-way 95 %", 5, squares=squares)
    said = precision.larger_run(grid, 0.1)
    assert said.startswith("about ") and said.endswith(" questions in place of 80") and "seeds" not in said
    hopeless = grid.__class__(0.1, Interval(-9, 9), 80, "two-way 95 %", 5, squares=MeanSquares(5, 80, 1e6, 1e6, 1.0))
    assert precision.larger_run(hopeless, 0.1) == "neither more seeds nor more questions alone"
    assert precision.larger_run(Estimate(0.1, Interval(0, 1), 9), 0.1) is None
