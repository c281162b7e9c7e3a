"""The domain score joins four aspects and refuses anything else."""

import math

import pytest

from zephyr_lab.scoring.domain import ASPECTS, domain_score
from zephyr_lab.world.benchmark import domain
from zephyr_lab.world.judge import grade
from zephyr_lab.world.ratings import domain_aspects


def aspects(*values):
    return dict(zip(ASPECTS, values, strict=True))


def test_the_score_is_the_plain_mean_of_the_four_aspects():
    assert domain_score(aspects(10.0, 7.0, 4.0, 1.0)) == 5.5


def test_the_worlds_ideal_answer_has_10_and_silence_little():
    turn = domain(1)[0].turns[0]
    assert domain_score(domain_aspects(grade(turn, turn.ideal))) == 10
    # form: not complete, no words to cost anything (1 of 3); not one thing right, nothing explained
    silent = domain_score(domain_aspects(grade(turn, "", ended=False)))
    assert silent == pytest.approx((1 + 9 / 3 + 4 + 1 + 1) / 4)


@pytest.mark.parametrize("right", [True, False])
def test_a_wrong_core_costs_accuracy_factuality_and_help_but_not_form(right):
    turn = domain(1)[0].turns[0]
    judged = domain_aspects(grade(turn, turn.core if right else turn.wrong_core))
    assert judged["instruction_following"] == 10
    assert (judged["accuracy"] == 10) is right
    assert (judged["factuality"] == 10) is right


@pytest.mark.parametrize(
    ("judged", "message"),
    [
        ({}, "an answer is judged by instruction_following, .*; got nothing"),
        (aspects(1.0, 1.0, 1.0, 1.0) | {"honesty": 3.0}, "got .*honesty"),
        (aspects(10.5, 1.0, 1.0, 1.0), "instruction_following must be within 1 and 10, got 10.5"),
        (aspects(math.nan, 1.0, 1.0, 1.0), "instruction_following must be within 1 and 10, got nan"),
    ],
)
def test_other_aspects_and_scales_are_refused(judged, message):
    with pytest.raises(ValueError, match=message):
        domain_score(judged)
