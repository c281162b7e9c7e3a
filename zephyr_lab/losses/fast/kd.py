"""Lean twins of `losses.kd`: the same divergences with both directions' gradients written out.

Autograd would keep four tensors of the logits' size; these keep the logits alone and work through the positions in
pieces. Tested equal to the plain forms, values and gradients.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr_lab.core.shapes import Logits, require_same_shape
from zephyr_lab.losses.map_shapes import TeacherLogits, TokenScores

POSITIONS_AT_ONCE = 4096


def forward_kl(student: Logits, teacher: TeacherLogits, *, temperature: float) -> TokenScores:
    """As `losses.kd.forward_kl`, in float32 at least."""
    return _divergence(_Forward, student, teacher, temperature)


def reverse_kl(student: Logits, teacher: TeacherLogits, *, temperature: float) -> TokenScores:
    """As `losses.kd.reverse_kl`, in float32 at least."""
    return _divergence(_Reverse, student, teacher, temperature)


def _divergence(function: type["_Divergence"], student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature} (the paper has 1)")
    require_same_shape(student=student, teacher=teacher)
    flat = function.apply(student.flatten(0, 1), teacher.detach().flatten(0, 1), temperature)
    return flat.view(student.shape[:2])


class _Divergence(torch.autograd.Function):
    """A divergence of each row of flat logits; `terms` gives a piece's values and their gradient's factor."""

    @staticmethod
    def terms(log_student: Tensor, log_teacher: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    @classmethod
    def pieces(cls, student: Tensor, teacher: Tensor, temperature: float) -> Any:
        for start in range(0, len(student), POSITIONS_AT_ONCE):
            part = slice(start, start + POSITIONS_AT_ONCE)
            yield part, *cls.terms(_log_softmax(student[part], temperature), _log_softmax(teacher[part], temperature))

    @classmethod
    def values(cls, ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(student, teacher)
        ctx.temperature = temperature
        return torch.cat([values for _, values, _ in cls.pieces(student, teacher, temperature)])

    @classmethod
    def gradients(cls, ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        student, teacher = ctx.saved_tensors
        found = torch.empty_like(student)
        for part, _, slope in cls.pieces(student, teacher, ctx.temperature):
            found[part] = (gradient[part, None] * slope / ctx.temperature).to(found.dtype)
        return found, None, None


class _Forward(_Divergence):
    @staticmethod
    def terms(log_student: Tensor, log_teacher: Tensor) -> tuple[Tensor, Tensor]:
        teacher = log_teacher.exp()
        values = torch.where(teacher > 0, teacher * (log_teacher - log_student), 0.0).sum(dim=-1)
        return values, log_student.exp() - teacher  # d KL / d logit = q - p

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return _Forward.values(ctx, student, teacher, temperature)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Forward.gradients(ctx, gradient)


class _Reverse(_Divergence):
    @staticmethod
    def terms(log_student: Tensor, log_teacher: Tensor) -> tuple[Tensor, Tensor]:
        student = log_student.exp()
        ratio = torch.where(student > 0, log_student - log_teacher, 0.0)
        values = (student * ratio).sum(dim=-1)
        return values, student * (ratio - values[:, None])  # d KL / d logit = q (log q / p - KL)

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return _Reverse.values(ctx, student, teacher, temperature)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Reverse.gradients(ctx, gradient)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    wide = torch.promote_types(logits.dtype, torch.float32)
    return (logits.to(wide) / temperature).log_softmax(dim=-1)
