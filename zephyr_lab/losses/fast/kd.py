"""Lean twins of `losses.kd`: the same divergences with their gradients written out.

Autograd would keep four tensors of the logits' size; these keep one, the gradient itself, and none where no gradient is
asked for. They work through the positions in pieces. Tested equal to the plain forms, values and gradients.
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
    """A divergence of each row of flat logits; `terms` gives values and, by student logits over temperature, slopes."""

    @staticmethod
    def terms(log_student: Tensor, log_teacher: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    @classmethod
    def values(cls, ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        found = []
        slopes = torch.empty_like(student) if ctx.needs_input_grad[0] else None
        for start in range(0, len(student), POSITIONS_AT_ONCE):
            part = slice(start, start + POSITIONS_AT_ONCE)
            values, slope = cls.terms(
                _log_softmax(student[part], temperature), _log_softmax(teacher[part], temperature)
            )
            found.append(values)
            if slopes is not None:
                slopes[part] = slope.div_(temperature)
        ctx.save_for_backward(slopes)
        return torch.cat(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return gradient.to(slopes.dtype)[:, None] * slopes, None, None


class _Forward(_Divergence):
    @staticmethod
    def terms(log_student: Tensor, log_teacher: Tensor) -> tuple[Tensor, Tensor]:
        teacher = log_teacher.exp()
        values = torch.where(teacher > 0, teacher * (log_teacher - log_student), 0.0).sum(dim=-1)
        return values, log_student.exp_().sub_(teacher)  # q - p

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return _Forward.values(ctx, student, teacher, temperature)


class _Reverse(_Divergence):
    @staticmethod
    def terms(log_student: Tensor, log_teacher: Tensor) -> tuple[Tensor, Tensor]:
        student = log_student.exp()
        ratio = torch.where(student > 0, log_student - log_teacher, 0.0)
        values = (student * ratio).sum(dim=-1)
        return values, ratio.sub_(values[:, None]).mul_(student)  # q (log q / p - KL)

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return _Reverse.values(ctx, student, teacher, temperature)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    wide = torch.promote_types(logits.dtype, torch.float32)
    return (logits.to(wide) / temperature).log_softmax(dim=-1)
