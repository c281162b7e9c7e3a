"""Losses of bfloat16 numbers are those of the same numbers written out in float64: nothing is rounded on the way."""

import math

import pytest
import torch

from zephyr_lab.losses import (
    attention_kd,
    cdpo,
    cross_entropy,
    dae,
    dpo,
    draft,
    ipo,
    kd,
    kl_estimators,
    kto,
    orpo,
    policy_gradient,
    ppo,
    reward_model,
    simpo,
)
from zephyr_lab.losses.kto import ResponseLogProbs
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs

ENTRIES = 32000


def near_logits(narrow, positions=8, dtype=torch.bfloat16):
    """A student 0.01 from its teacher: the divergence is a millionth of the numbers it is made of."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(1, positions, ENTRIES, generator=generator)
    teacher = student + 0.01 * torch.randn(student.shape, generator=generator)
    return student.to(narrow), teacher.to(dtype)


def relative_entropy(p_logits, q_logits):
    """sum p log(p / q) in float64, written out."""
    p, q = (logits.double() - logits.double().logsumexp(dim=-1, keepdim=True) for logits in (p_logits, q_logits))
    return (p.exp() * (p - q)).sum(dim=-1)


@pytest.mark.parametrize("student_type", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("loss", [kd.forward_kl, kd.reverse_kl])
def test_a_divergence_of_narrow_logits_is_that_of_their_values(loss, student_type):
    student, teacher = near_logits(student_type)
    expected = relative_entropy(teacher, student) if loss is kd.forward_kl else relative_entropy(student, teacher)
    found = loss(student, teacher, temperature=1.0)
    assert found.dtype == torch.float32 and (found > 0).all()
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=3e-6)  # float32 knows log p = -11 to 1e-6


def test_dae_of_narrow_logits_is_that_of_their_values():
    student, teacher = near_logits(torch.bfloat16)
    found = dae.dae_scores(
        student, expert=teacher, reference=teacher, is_domain=torch.tensor([True]), temperature=1.0
    )  # fmt: skip
    torch.testing.assert_close(
        found.double(), relative_entropy(teacher, student), rtol=0.02, atol=3e-6
    )  # float32 knows log p = -11 to 1e-6


def test_the_gradient_has_the_students_own_type():
    student, teacher = near_logits(torch.bfloat16)
    student.requires_grad_()
    kd.forward_kl(student, teacher, temperature=1.0).sum().backward()
    slope = student.detach().double().softmax(-1) - teacher.double().softmax(-1)  # d KL / d logits = q - p
    assert student.grad.dtype == torch.bfloat16
    torch.testing.assert_close(student.grad.double(), slope, rtol=0.02, atol=1e-8)


# Each loss as a function of tensors that may be narrow; log-probabilities are large and close to one another.
LOG_PROBS = (torch.tensor([-211.3, -187.9]), torch.tensor([-212.8, -186.6]))
REFERENCE = (torch.tensor([-210.1, -188.4]), torch.tensor([-213.2, -185.3]))
LENGTHS = PairLengths(torch.tensor([40, 37]), torch.tensor([41, 36]))
MASK = torch.ones(1, 2, dtype=torch.bool)
LOGITS = 3 * torch.randn(1, 4, 50, generator=torch.Generator().manual_seed(1))
MAPS = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(2)).softmax(dim=-1)
ALLOWED = torch.ones(1, 1, 4, 4, dtype=torch.bool)
QUERIES = torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(3))


def pairs(chosen, rejected, ref_chosen, ref_rejected):
    return PairLogProbs(chosen, rejected), PairLogProbs(ref_chosen, ref_rejected)


NUMBERS = (*LOG_PROBS, *REFERENCE)
CASES = {
    "dpo": (NUMBERS, lambda *numbers: dpo.dpo_loss(*pairs(*numbers), beta=0.1)),
    "cdpo": (NUMBERS, lambda *numbers: cdpo.cdpo_loss(*pairs(*numbers), beta=0.1, label_smoothing=0.1)),
    "ipo": (NUMBERS, lambda *numbers: ipo.ipo_loss(*pairs(*numbers), tau=0.1)),
    "orpo": (LOG_PROBS, lambda *numbers: orpo.orpo_loss(PairLogProbs(*numbers), LENGTHS, weight=0.5)),
    "simpo": (LOG_PROBS, lambda *numbers: simpo.simpo_loss(PairLogProbs(*numbers), LENGTHS, beta=2.0, gamma=0.5)),
    "kto": (
        LOG_PROBS,
        lambda *numbers: kto.kto_loss(
            ResponseLogProbs(*numbers), torch.tensor([True, False]), torch.tensor(0.0), beta=0.1
        ),
    ),
    "kto's reference point": (LOG_PROBS, lambda *numbers: kto.reference_point(ResponseLogProbs(*numbers))),
    "k1": (LOG_PROBS, kl_estimators.k1),
    "k2": (LOG_PROBS, kl_estimators.k2),
    "k3": (LOG_PROBS, kl_estimators.k3),
    "exact KL": ((LOGITS.log_softmax(-1), LOGITS.flip(0).log_softmax(-1)), kl_estimators.exact_kl),
    "penalised rewards": (
        (torch.tensor([1.3, 0.2]), *LOG_PROBS),
        lambda *numbers: policy_gradient.kl_penalised_rewards(*numbers, beta=0.1),
    ),
    "token rewards": (
        (torch.tensor([1.3]), LOG_PROBS[0][None], LOG_PROBS[1][None]),
        lambda *numbers: ppo.token_rewards(*numbers, MASK, beta=0.1),
    ),
    "clipped surrogate": (
        (*LOG_PROBS, torch.tensor([1.3, 0.2])), lambda *numbers: ppo.clipped_surrogate_loss(*numbers, clip=0.2)
    ),
    "value loss": (LOG_PROBS, ppo.value_loss),
    "preference probabilities": (LOG_PROBS, reward_model.preference_probabilities),
    "reward model": (LOG_PROBS, reward_model.reward_model_loss),
    "margins of rewards": (
        (*LOG_PROBS, torch.tensor([1.0, 3.0])), lambda *numbers: reward_model.margin_reward_model_loss(*numbers)
    ),
    "centring": (LOG_PROBS, reward_model.centring_penalties),
    "cross-entropy": (
        (LOGITS,), lambda logits: cross_entropy.next_token_losses(logits, torch.tensor([[3, 1, 4, 1]]))
    ),
    "attention map": ((QUERIES, QUERIES.flip(2)), lambda *both: attention_kd.attention_map(*both, ALLOWED, scale=0.4)),
    "attention": (
        (MAPS, (MAPS + 0.02) / 1.08), lambda *both: attention_kd.attention_kl(*both, ALLOWED)
    ),
    "draft features": ((QUERIES[0, 0], QUERIES[0, 1]), draft.feature_losses),
    "draft tokens": ((LOGITS[0], LOGITS[0].flip(0)), draft.soft_cross_entropies),
}  # fmt: skip


@pytest.mark.parametrize(("numbers", "loss"), CASES.values(), ids=CASES)
def test_a_loss_of_narrow_numbers_is_that_of_their_values(numbers, loss):
    narrow = [one.to(torch.bfloat16) for one in numbers]
    found, expected = loss(*narrow), loss(*(one.double() for one in narrow))
    assert found.dtype == torch.float32 and expected.dtype == torch.float64
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("numbers", "loss"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_numbers_keep_their_type(numbers, loss, dtype):
    assert loss(*(one.to(dtype) for one in numbers)).dtype == dtype


def test_the_worst_case_in_print():
    # 1 x 64 x 32000, noise of 0.01: KL is about half the noise's variance, 5e-5, plus what rounding to bfloat16 adds
    student, teacher = near_logits(torch.bfloat16, positions=64)
    found = kd.forward_kl(student, teacher, temperature=1.0).double().mean()
    expected = relative_entropy(teacher, student).mean()
    assert 0.5e-4 < expected < 4e-4 and math.isclose(found, expected, rel_tol=0.01)
