"""The attention loss of KD: eq. 3 and 4 against loops and SciPy, windows, padding, shared keys."""

import math

import pytest
import torch
from scipy.special import rel_entr

from zephyr_lab.losses import kd
from zephyr_lab.losses.attention_kd import attention_kl, attention_map, attention_scores

ROWS, HEADS, KV_HEADS, POSITIONS, DIM = 2, 4, 2, 6, 3


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def queries(seed, dim=DIM):
    return random(seed, ROWS, HEADS, POSITIONS, dim)


def keys(seed, kv_heads=KV_HEADS, dim=DIM):
    return random(seed, ROWS, kv_heads, POSITIONS, dim)


def causal(window=POSITIONS, padded=(0, 0)):
    """Keys that each query may look at: not ahead, within the window, not among the row's left padding."""
    place = torch.arange(POSITIONS)
    ahead = place[None] <= place[:, None]
    near = place[None] > place[:, None] - window
    real = place[None] >= torch.tensor(padded)[:, None]
    return (ahead & near)[None, None] & real[:, None, None]


MASKS = {"whole text": causal(), "window of 2": causal(window=2), "padding": causal(padded=(2, 0))}


def by_hand(q, k, allowed, scale):
    """Eq. 3 as loops: {(row, head, query): {key: weight}}."""
    found = {}
    for row in range(ROWS):
        for head in range(HEADS):
            for t in range(POSITIONS):
                seen = [i for i in range(POSITIONS) if allowed[row if len(allowed) > 1 else 0, 0, t, i]]
                shared = k[row, head // (HEADS // k.shape[1])]
                scores = {i: math.exp(scale * sum((q[row, head, t] * shared[i]).tolist())) for i in seen}
                found[row, head, t] = {i: score / sum(scores.values()) for i, score in scores.items()}
    return found


@pytest.mark.parametrize("allowed", MASKS.values(), ids=MASKS)
def test_eq_3_and_4_are_the_loops(allowed):
    student, teacher = by_hand(queries(0), keys(1), allowed, 0.6), by_hand(queries(2), keys(3), allowed, 0.4)
    expected = torch.zeros(ROWS, HEADS, POSITIONS, dtype=torch.float64)
    for place, weights in teacher.items():
        expected[place] = sum(a * math.log(a / student[place][i]) for i, a in weights.items())
    student_map = attention_map(queries(0), keys(1), allowed, scale=0.6)
    teacher_map = attention_map(queries(2), keys(3), allowed, scale=0.4)
    assert torch.allclose(attention_kl(student_map, teacher_map, allowed), expected, atol=1e-12)


def test_eq_4_is_scipys_relative_entropy_of_each_row():
    allowed = causal()
    student = attention_map(queries(4), keys(5), allowed, scale=1.0)
    teacher = attention_map(queries(6), keys(7), allowed, scale=1.0)
    expected = rel_entr(teacher.numpy(), student.numpy()).sum(axis=-1)
    assert attention_kl(student, teacher, allowed).numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("allowed", [MASKS["whole text"], MASKS["window of 2"]], ids=["whole text", "window of 2"])
def test_attention_rows_sum_to_one(allowed):
    weights = attention_map(queries(8), keys(9), allowed, scale=0.5)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(ROWS, HEADS, POSITIONS, dtype=torch.float64))
    assert (weights[~allowed.expand_as(weights)] == 0).all()


def test_a_fully_masked_row_contributes_nothing():
    allowed = MASKS["padding"]  # queries 0 and 1 of the first row have only padding before them
    q, k = queries(10).requires_grad_(), keys(11).requires_grad_()
    found = attention_kl(
        attention_map(q, k, allowed, scale=1.0), attention_map(queries(12), keys(13), allowed, scale=1.0), allowed
    )
    assert (found[0, :, :2] == 0).all() and (found[1, :, 1:] > 0).all()
    gradient = torch.autograd.grad(found.sum(), [q, k])
    assert all(part.isfinite().all() for part in gradient)
    assert (gradient[0][0, :, :2] == 0).all()


def test_a_model_is_no_distance_from_itself():
    own = attention_map(queries(0), keys(1), causal(), scale=1.0)
    found = attention_kl(own, own, causal())
    assert found.abs().max() < 1e-15


def test_the_gradient_reaches_the_student_only():
    given = [queries(0), keys(1), queries(2), keys(3)]
    q, k, teacher_q, teacher_k = (tensor.requires_grad_() for tensor in given)
    student = attention_map(q, k, causal(), scale=1.0)
    attention_kl(student, attention_map(teacher_q, teacher_k, causal(), scale=1.0), causal()).sum().backward()
    assert q.grad.abs().sum() > 0 and k.grad.abs().sum() > 0
    assert teacher_q.grad is None and teacher_k.grad is None


def test_normalised_over_layers_heads_positions_and_rows_as_printed():
    layers = [random(seed, ROWS, HEADS, POSITIONS).abs() for seed in (20, 21, 22)]
    everywhere = torch.ones(ROWS, POSITIONS, dtype=torch.bool)
    expected = sum(layer.sum().item() for layer in layers) / (3 * HEADS * POSITIONS * ROWS)
    scores = attention_scores(layers)
    assert kd.mean_of_sequences(scores, everywhere).item() == pytest.approx(expected)
    assert kd.mean_of_tokens(scores, everywhere).item() == pytest.approx(expected)


def test_the_codes_mean_over_answer_rows_heads_and_layers():
    layers = [random(seed, ROWS, HEADS, POSITIONS).abs() for seed in (23, 24)]
    answers = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 0, 0, 0, 0]], dtype=torch.bool)
    total = sum(layer[row, :, t].sum().item() for layer in layers for row, t in answers.nonzero().tolist())
    assert kd.mean_of_tokens(attention_scores(layers), answers).item() == pytest.approx(total / (4 * HEADS * 2))
