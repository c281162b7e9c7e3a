"""The prediction loss of KD: eq. 2 against SciPy and loops, its mask, its two means and eq. 5."""

import math

import pytest
import torch
from scipy.special import rel_entr, softmax

from zephyr_lab.losses import kd


def random_logits(seed, shape=(2, 3, 5)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask(*rows):
    return torch.tensor(rows, dtype=torch.bool)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_eq_2_is_scipys_relative_entropy_of_each_position(temperature):
    student, teacher = random_logits(0), random_logits(1)
    p = softmax(teacher.numpy() / temperature, axis=-1)
    q = softmax(student.numpy() / temperature, axis=-1)
    found = kd.forward_kl(student, teacher, temperature=temperature)
    assert found.numpy() == pytest.approx(rel_entr(p, q).sum(axis=-1), abs=1e-12)
    found = kd.reverse_kl(student, teacher, temperature=temperature)
    assert found.numpy() == pytest.approx(rel_entr(q, p).sum(axis=-1), abs=1e-12)


def test_eq_2_as_a_loop_over_the_vocabulary():
    student, teacher = random_logits(2), random_logits(3)
    expected = []
    for z_student, z_teacher in zip(student.flatten(0, 1).tolist(), teacher.flatten(0, 1).tolist(), strict=True):
        p_student = [math.exp(z) / sum(map(math.exp, z_student)) for z in z_student]
        p_teacher = [math.exp(z) / sum(map(math.exp, z_teacher)) for z in z_teacher]
        expected.append(sum(p * math.log(p / q) for p, q in zip(p_teacher, p_student, strict=True)))
    found = kd.forward_kl(student, teacher, temperature=1.0)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_a_model_is_no_distance_from_itself():
    logits = random_logits(4)
    assert kd.forward_kl(logits, logits, temperature=1.0).abs().max() < 1e-15
    assert kd.reverse_kl(logits, logits, temperature=1.0).abs().max() < 1e-15


def test_an_entry_that_the_teacher_rules_out_adds_nothing():
    student, teacher = random_logits(5, (1, 1, 3)), random_logits(6, (1, 1, 3))
    teacher[..., 2] = float("-inf")
    p = teacher[0, 0, :2].softmax(0)
    expected = (p * (p.log() - student[0, 0].log_softmax(0)[:2])).sum().item()
    assert kd.forward_kl(student, teacher, temperature=1.0).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("direction", ["forward_kl", "reverse_kl"])
def test_the_gradient_reaches_the_student_only(direction):
    student, teacher = random_logits(7).requires_grad_(), random_logits(8).requires_grad_()
    getattr(kd, direction)(student, teacher, temperature=1.0).sum().backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_half_precision_logits_are_compared_in_single_precision():
    student, teacher = random_logits(14).bfloat16(), random_logits(15).bfloat16()
    expected = kd.forward_kl(student.float(), teacher.float(), temperature=1.0)
    found = kd.forward_kl(student, teacher, temperature=1.0)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_mask_moves_to_the_position_that_predicts():
    assert kd.predicting(mask([0, 0, 1, 1, 0], [1, 1, 0, 0, 1])).tolist() == [
        [False, True, True, False, False],
        [True, False, False, True, False],
    ]


def test_the_published_mask_loses_the_first_answer_token_and_keeps_what_follows_the_last():
    answer = mask([0, 0, 1, 1, 0])  # answer tokens at 2 and 3
    right, published = kd.predicting(answer), answer
    assert right[0, 1] and not published[0, 1]  # the prediction of the first
    assert published[0, 3] and not right[0, 3]  # the prediction of what comes after the last


def test_means_of_sequences_and_of_tokens_by_hand():
    scores = torch.tensor([[1.0, 3.0, 100.0], [5.0, 100.0, 100.0], [100.0, 100.0, 100.0]], dtype=torch.float64)
    counted = mask([1, 1, 0], [1, 0, 0], [0, 0, 0])
    assert kd.mean_of_sequences(scores, counted).item() == 3.5  # (2 + 5) / 2: a row without a position is left out
    assert kd.mean_of_tokens(scores, counted).item() == 3.0  # (1 + 3 + 5) / 3


def test_nothing_counted_is_a_loss_of_zero_with_a_gradient_of_zero():
    scores = random_logits(16, (2, 3)).requires_grad_()
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    (kd.mean_of_sequences(scores, nothing) + kd.mean_of_tokens(scores, nothing)).backward()
    assert scores.grad.abs().sum() == 0


@pytest.mark.parametrize("mean", [kd.mean_of_sequences, kd.mean_of_tokens])
def test_padding_and_the_order_of_rows_change_no_mean(mean):
    scores, counted = random_logits(17, (3, 4)), mask([1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 0, 0])
    padded = torch.cat([scores, torch.full((3, 2), float("nan"), dtype=torch.float64)], dim=1)
    with_padding = torch.cat([counted, torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    assert mean(padded, with_padding).item() == mean(scores, counted).item()
    order = [2, 0, 1]
    assert mean(scores[order], counted[order]).item() == pytest.approx(mean(scores, counted).item())


def test_eq_5_adds_both_losses_and_no_cross_entropy():
    one, two, ce = torch.tensor(0.5), torch.tensor(0.25), torch.tensor(float("nan"))
    assert kd.kd_loss(one, two, ce, prediction_weight=1.0, attention_weight=1.0, ce_weight=0.0).item() == 0.75


def test_lambda_of_the_code_mixes_cross_entropy_in():
    prediction, attention, ce = torch.tensor(2.0), torch.tensor(4.0), torch.tensor(10.0)
    loss = kd.kd_loss(prediction, attention, ce, **kd.lambda_weights(0.25))
    assert loss.item() == pytest.approx(0.75 * 10 + 0.25 * (2 + 4))
    assert kd.lambda_weights(1.0) == {"prediction_weight": 1, "attention_weight": 1, "ce_weight": 0}
    with pytest.raises(ValueError, match=r"kd_weight must be from 0 to 1, got 1.5"):
        kd.lambda_weights(1.5)


def test_the_squared_temperature_keeps_the_size_of_gradients():
    # Far from each other's logits small differences: KL ~ sum (z_t - z_s)^2 / (2 V T^2), so T^2 cancels.
    teacher = 0.01 * random_logits(18)
    sizes = []
    for temperature in (1.0, 4.0):
        student = (0.01 * random_logits(19)).requires_grad_()
        scores = kd.forward_kl(student, teacher, temperature=temperature)
        (temperature**2 * scores.sum()).backward()
        sizes.append(student.grad.norm().item())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


def test_other_vocabularies_and_temperatures_are_refused():
    with pytest.raises(ValueError, match=r"student \(2, 3, 5\), teacher \(2, 3, 4\)"):
        kd.forward_kl(random_logits(0), random_logits(0, (2, 3, 4)), temperature=1.0)
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0.0"):
        kd.reverse_kl(random_logits(0), random_logits(1), temperature=0.0)
