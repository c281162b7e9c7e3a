"""One token from logits: argmax at temperature 0, an exact draw above it."""

import pytest
import torch

from zephyr_lab.decoding.sampling import choose


def rows(logits, temperatures, uniforms):
    chosen = choose(torch.tensor(logits), torch.tensor(temperatures), torch.tensor(uniforms, dtype=torch.float64))
    return chosen.tolist()


def test_temperature_0_takes_the_largest_whatever_the_number():
    assert rows([[0.0, 2.0, 1.0]] * 2, [0.0, 0.0], [0.0, 0.999]) == [1, 1]


def test_the_number_walks_through_the_cumulative_distribution():
    # softmax(ln 1, ln 2, ln 5) = 1/8, 2/8, 5/8: borders at 0.125 and 0.375
    logits = torch.tensor([1.0, 2.0, 5.0]).log().tolist()
    numbers = [0.0, 0.124, 0.126, 0.374, 0.376, 0.999]
    assert rows([logits] * 6, [1.0] * 6, numbers) == [0, 0, 1, 1, 2, 2]


def test_temperature_one_half_squares_the_odds():
    # 1 : 4 : 25 of 30: borders at 1/30 and 5/30
    logits = torch.tensor([1.0, 2.0, 5.0]).log().tolist()
    assert rows([logits] * 4, [0.5] * 4, [0.032, 0.034, 0.166, 0.168]) == [0, 1, 1, 2]


def test_rows_keep_their_own_temperature():
    logits = torch.tensor([1.0, 2.0, 5.0]).log().tolist()
    assert rows([logits] * 3, [0.0, 1.0, 0.0], [0.1, 0.1, 0.1]) == [2, 0, 2]


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_an_impossible_token_is_never_drawn(number):
    inf = float("inf")
    assert rows([[-inf, 0.0, 0.0, -inf]], [1.0], [number]) in ([1], [2])
