"""The three questions: derived points are reached, and each plot shows what its sentence says."""

import math

import numpy as np
import pytest
import torch

from zephyr_lab.losses.fast import pair_losses
from zephyr_lab.teaching import pictures, questions, toy
from zephyr_lab.teaching.toy import Toy

TOYS = toy.draw([0], prompts=2, answers=4, beta=0.5)
TOKENS = questions.lengths(TOYS)


def test_dpo_on_means_ends_at_its_derived_point_and_not_at_the_optimum():
    reached = questions.trained_on_means(TOYS, TOKENS)
    assert toy.kl(questions.point_of_means(TOYS, TOKENS), reached).max() < 1e-8
    assert toy.kl(reached, toy.optimum(TOYS)).min() > 0.05


def test_with_one_length_means_are_sums_at_another_beta():
    even = torch.full_like(TOKENS, 3)
    same = toy.optimum(Toy(TOYS.rewards, TOYS.reference, TOYS.beta / 3))
    assert toy.kl(questions.point_of_means(TOYS, even), same).max() < 1e-12


def test_sums_give_the_true_reward_back_and_means_do_not():
    frame = questions.sum_or_mean(TOYS, TOKENS)
    sums, means = (frame[frame["series"] == series] for series in (questions.SUM, questions.MEAN))
    assert np.allclose(sums["x"], sums["y"])
    assert (means["x"] - means["y"]).abs().max() > 0.5


def test_at_a_small_beta_even_chosen_answers_lose_probability():
    by_beta = questions.rewards_of_the_optimum(TOYS, [0.05, 5.0]).set_index(["series", "x"])["y"]
    assert by_beta["chosen", 0.05] < 0 < by_beta["chosen", 5.0]
    assert (by_beta["chosen"] > by_beta["rejected"]).all()
    # the mean reward of a chosen answer less beta log Z, by the definition of the optimum
    given = Toy(TOYS.rewards, TOYS.reference, 0.05)
    chosen = toy.outcome_shares(given).sum(-1)
    expected = (chosen * given.rewards).sum() - 0.05 * toy.log_partition(given).mean()
    assert by_beta["chosen", 0.05] == pytest.approx(expected.item())


def test_on_the_way_both_fall_and_the_margin_grows_to_the_optimum_s():
    small = Toy(TOYS.rewards, TOYS.reference, 0.1)
    frame = questions.rewards_on_the_way(small, steps=1000)
    end = frame[frame["x"] == 1000].set_index("series")["y"]
    at_optimum = questions.rewards_of_the_optimum(small, [0.1]).set_index("series")["y"]
    assert end["chosen"] < 0 and end["rejected"] < end["chosen"]
    assert end["margin"] == pytest.approx(at_optimum["chosen"] - at_optimum["rejected"], abs=1e-4)


def test_the_loss_cannot_tell_which_way_round_and_the_objective_can():
    frame = questions.which_way_round(TOYS, steps=200)
    right, turned, added = (
        frame[frame["series"] == series].set_index("x")
        for series in (questions.RIGHT, questions.TURNED, questions.ADDED)
    )
    assert np.allclose(right["loss"], turned["loss"], atol=0.05) and right["loss"][200] < right["loss"][0]
    best = toy.objective(TOYS, toy.optimum(TOYS)).item()
    assert right["objective"][200] == pytest.approx(best, abs=1e-3)
    assert turned["objective"][200] < right["objective"][0] < right["objective"][200]
    assert added["objective"][200] < right["objective"][200] - 0.05


def test_each_figure_draws_its_frame():
    drawn = pictures.sum_or_mean(questions.sum_or_mean(TOYS, TOKENS))
    assert [ax.get_title() for ax in drawn.axes] == [questions.SUM, questions.MEAN]
    by_beta, by_step = questions.rewards_of_the_optimum(TOYS, [0.1, 1.0]), questions.rewards_on_the_way(TOYS, steps=5)
    left, right = pictures.chosen_rewards(by_beta, by_step).axes
    assert len(left.get_lines()) == 4 and len(right.get_lines()) == 3  # with the line at zero
    assert len(pictures.which_way_round(questions.which_way_round(TOYS, steps=5)).axes) == 2


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
