"""The pull of each loss against its derivative by hand."""

import math

import pytest

from zephyr_lab.losses.fast import pair_losses
from zephyr_lab.teaching import pictures, questions

LOSSES = {
    name: lambda policy, reference, loss=loss: loss.function(policy, reference)
    for name, loss in {
        "DPO": pair_losses.dpo(beta=0.5),
        "cDPO": pair_losses.cdpo(beta=0.5, label_smoothing=0.1),
        "IPO": pair_losses.ipo(tau=0.1),
    }.items()
}


def test_the_pulls_are_the_derivatives_by_hand():
    lines = questions.slopes(LOSSES).set_index(["series", "x"])["y"]
    at = 4.0
    lost, won = 1 / (1 + math.exp(0.5 * at)), 1 / (1 + math.exp(-0.5 * at))
    assert lines["DPO", at] == pytest.approx(lost / 0.5)
    assert lines["cDPO", at] == pytest.approx((0.9 * lost - 0.1 * won) / (0.9 * 0.5 - 0.1 * 0.5))
    assert lines["IPO", at] == pytest.approx((5.0 - at) / 5.0)  # 1 / (2 tau) = 5


def test_the_figure_has_a_line_a_loss_and_one_at_nothing():
    lines = questions.slopes(LOSSES)
    (ax,) = pictures.slopes(lines).axes
    assert len(ax.get_lines()) == 4
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["DPO", "cDPO", "IPO"]
