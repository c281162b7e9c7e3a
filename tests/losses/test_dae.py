"""Domain alignment: each row's own teacher (eq. 6), and the readings of its two sums."""

import pytest
import torch

from zephyr_lab.losses import kd
from zephyr_lab.losses.dae import dae_scores, stacked, sum_of_group_means


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOGITS = (4, 3, 5)
DOMAIN = torch.tensor([False, True, False, True])


def test_eq_6_takes_each_row_from_its_own_teacher():
    student, expert, reference = random(0, *LOGITS), random(1, *LOGITS), random(2, *LOGITS)
    found = dae_scores(student, expert=expert, reference=reference, is_domain=DOMAIN, temperature=1.0)
    for row, teacher in enumerate([reference, expert, reference, expert]):
        alone = kd.forward_kl(student[row : row + 1], teacher[row : row + 1], temperature=1.0)
        assert torch.allclose(found[row], alone[0], atol=1e-14)


def test_general_rows_are_exactly_zero_at_the_first_step():
    student, expert = random(3, *LOGITS), random(4, *LOGITS)
    found = dae_scores(student, expert=expert, reference=student.clone(), is_domain=DOMAIN, temperature=1.0)
    assert (found[~DOMAIN] == 0).all() and (found[DOMAIN] > 0).all()


def test_the_teachers_are_stacked_as_figure_3_draws_them():
    expert, reference = random(5, *LOGITS), random(6, *LOGITS)
    assert torch.equal(stacked(expert, reference, DOMAIN)[DOMAIN], expert[DOMAIN])
    assert torch.equal(stacked(expert, reference, DOMAIN)[~DOMAIN], reference[~DOMAIN])


def test_the_gradient_reaches_the_student_only():
    student, expert, reference = (random(seed, *LOGITS).requires_grad_() for seed in (7, 8, 9))
    dae_scores(student, expert=expert, reference=reference, is_domain=DOMAIN, temperature=1.0).sum().backward()
    assert student.grad.abs().sum() > 0 and expert.grad is None and reference.grad is None


def test_three_readings_of_the_two_sums_by_hand():
    scores = torch.tensor([[1.0, 1.0], [8.0, 8.0], [2.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    counted = torch.tensor([[1, 1], [1, 1], [1, 0], [1, 0]], dtype=torch.bool)
    domain = torch.tensor([False, True, False, False])
    assert kd.mean_of_sequences(scores, counted).item() == (1 + 8 + 2 + 4) / 4  # each row once
    assert kd.mean_of_tokens(scores, counted).item() == (1 + 1 + 8 + 8 + 2 + 4) / 6  # each token once
    assert sum_of_group_means(scores, counted, domain).item() == pytest.approx(8 + (1 + 2 + 4) / 3)  # each kind once


def test_a_batch_of_one_kind_has_one_group():
    scores, counted = random(10, 2, 3).abs(), torch.ones(2, 3, dtype=torch.bool)
    for kind in (True, False):
        found = sum_of_group_means(scores, counted, torch.tensor([kind, kind]))
        assert found.item() == pytest.approx(scores.mean().item())
