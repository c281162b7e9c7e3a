"""The leaderboard's three rules on worked numbers."""

import math

import pytest

from zephyr_lab.scoring.multiple_choice import normalised, share, summed


def test_length_decides_between_the_two_rules():
    # -6 nats over 3 characters is -2 each, -8 over 8 is -1 each
    log_probs, characters = [-6.0, -8.0], [3, 8]
    assert summed(log_probs, 0) == 1 and summed(log_probs, 1) == 0
    assert normalised(log_probs, characters, 1) == 1 and normalised(log_probs, characters, 0) == 0


def test_the_share_is_of_probabilities_and_not_of_their_logarithms():
    log_probs = [math.log(0.03), math.log(0.01)]
    assert share(log_probs, 0) == pytest.approx(0.75)
    assert share(log_probs, 0) + share(log_probs, 1) == pytest.approx(1)


def test_the_share_of_very_unlikely_texts_is_not_lost():
    assert share([-2000.0, -2000.0 + math.log(3)], 1) == pytest.approx(0.75)


def test_options_that_tie_share_the_point():
    assert summed([-1.0, -1.0, -5.0], 0) == 0.5
    assert summed([-1.0, -1.0, -5.0], 2) == 0
    assert normalised([-2.0, -4.0], [1, 2], 1) == 0.5


def test_the_order_of_options_changes_nothing():
    log_probs, characters = [-3.0, -9.0, -4.0], [4, 9, 3]
    assert normalised(log_probs, characters, 0) == normalised(log_probs[::-1], characters[::-1], 2)


def test_an_option_without_text_is_refused():
    with pytest.raises(ValueError, match="at least one character"):
        normalised([-1.0, -2.0], [0, 3], 1)
