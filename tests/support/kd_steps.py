"""A batch of KD, rows for its training functions, and the comparison of two forms of its losses."""

import pytest
import torch

from zephyr_lab.methods.distillation import Batch

ROWS = [
    {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}], "is_domain": is_domain}
    for asked, told, is_domain in (
        ("Why is that?", "Because it is so.", True),
        ("Name a colour and say what you like about it.", "Blue, as the sea is.", False),
        ("Add 2 and 3.", "It is 5.", False),
        ("Who wrote it?", "Nobody knows that, I am afraid.", True),
    )
]
STEP = {"batch": 4, "micro_batch": 4, "warmup": 0.0, "learning_rate": 1e-3, "schedule": "constant"}


def silent(step, of, **numbers):
    """No bar."""


def rows(packed: bool) -> Batch:
    """Three rows of 9, 7 and 4 tokens, or the same ids as documents of 5 and 4, 7, 2 and 2."""
    ids = torch.randint(6, 600, (3, 9), generator=torch.Generator().manual_seed(0))
    real = torch.arange(9)[None] < torch.tensor([9, 7, 4])[:, None]
    answers = torch.tensor([[0, 0, 1, 1, 0, 0, 1, 1, 1], [0, 1, 0, 1, 1, 1, 1, 0, 0], [0, 1, 0, 1] + [0] * 5]).bool()
    places = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 0, 0], [0, 1, 0, 1] + [0] * 5])
    return Batch(ids.where(real, 0), real, answers & real, places if packed else None)


def gradients(student, loss):
    trained = [weight for weight in student.parameters() if weight.requires_grad]
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return [torch.zeros_like(one) if own is None else own for own, one in zip(found, trained, strict=True)]


def require_equal(student, lean, plain, tolerance=1e-9):
    ours, theirs = gradients(student, lean.loss), gradients(student, plain.loss)
    assert lean.loss.item() == pytest.approx(plain.loss.item(), rel=tolerance)
    largest = max(one.abs().max() for one in theirs)
    assert largest > 0
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= tolerance * largest
