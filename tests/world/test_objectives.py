"""Two objectives on the same verdicts."""

import pytest

from zephyr_lab.world.judge import WORD_PRICE, grade, value
from zephyr_lab.world.task import Check, Turn

TURN = Turn(
    prompt="What is 7 plus 5?", core="The answer is 12.", wrong_core="The answer is 13.", checks=(Check(("12",)),),
    explanation="We have 7 + 5 = 12.", wrong_explanation="We have 7 + 5 = 13.", key="7 + 5 = 12", group="plus",
)  # fmt: skip


def test_quality_is_the_exact_score():
    verdict = grade(TURN, "The answer is 12. We have 7 + 5 = 12.")
    assert value(verdict, "quality") == verdict.exact == 10.0


def test_brief_takes_its_price_for_every_word():
    verdict = grade(TURN, "The answer is 12.")
    assert value(verdict, "brief") == verdict.exact - 4 * WORD_PRICE


def test_the_two_disagree_about_an_explanation():
    short, long = grade(TURN, "The answer is 12."), grade(TURN, "The answer is 12. We have 7 + 5 = 12.")
    assert value(long, "quality") > value(short, "quality")
    assert value(long, "brief") < value(short, "brief")


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="one of quality, brief, got 'kind'"):
        value(grade(TURN, "12"), "kind")
