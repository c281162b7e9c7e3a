"""The attention loss from queries and keys: no attention map outlives the few query rows it is computed for.

Same values and gradients as `losses.attention_kd` on whole maps (tested). For texts beyond `QUERIES_AT_ONCE` positions
memory is linear in their length: of a layer its queries and keys are kept, not the square of its positions. The
gradient is written out: with a_S, a_T the two rows, d KL / d score = a_S - a_T.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr_lab.losses.map_shapes import Allowed, HeadScores, Keys, Queries, TeacherKeys, TeacherQueries

QUERIES_AT_ONCE = 256


def attention_kl(
    queries: Queries,
    keys: Keys,
    allowed: Allowed,
    *,
    scale: float,
    teacher_queries: TeacherQueries,
    teacher_keys: TeacherKeys,
    teacher_scale: float,
) -> HeadScores:
    """KL(teacher's row, student's row) of each head and query in nats (eq. 4), shape (row, head, position).

    Both maps are softmax(scale * q k) over the keys in `allowed`, one mask for both. The two models may differ in
    kv_heads and in dim, not in heads. No gradient reaches the teacher. Raises ValueError where heads or positions
    differ, or kv_heads do not divide heads.
    """
    require_alike(queries, keys, teacher_queries, teacher_keys)
    return _AttentionKL.apply(
        queries, keys, allowed, scale, teacher_queries.detach(), teacher_keys.detach(), teacher_scale
    )


def require_alike(queries: Tensor, keys: Tensor, teacher_queries: Tensor, teacher_keys: Tensor) -> None:
    """Raises ValueError where rows, heads or positions differ, or kv_heads do not divide heads."""
    if queries.shape[:3] != teacher_queries.shape[:3]:
        raise ValueError(
            f"rows, heads and positions differ: student {tuple(queries.shape[:3])}, "
            f"teacher {tuple(teacher_queries.shape[:3])}"
        )
    for name, count in (("keys", keys.shape[1]), ("teacher_keys", teacher_keys.shape[1])):
        if queries.shape[1] % count:
            raise ValueError(f"{name} have {count} heads, which do not divide the {queries.shape[1]} of the queries")


class _AttentionKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        allowed: Tensor,
        scale: float,
        teacher_queries: Tensor,
        teacher_keys: Tensor,
        teacher_scale: float,
    ) -> Tensor:
        ctx.scales = scale, teacher_scale
        parts, found, slope = _parts(queries), [], None
        for part in parts:
            may = allowed[:, :, part]
            log_student = _log_rows(queries[:, :, part], keys, may, scale)
            log_teacher = _log_rows(teacher_queries[:, :, part], teacher_keys, may, teacher_scale)
            teacher = log_teacher.exp()
            found.append(torch.where(may, teacher * log_teacher.sub_(log_student), 0.0).sum(dim=-1))
            if len(parts) == 1 and any(ctx.needs_input_grad):
                slope = _slope(log_student, teacher, may)
        # A text of one part is short: keeping its slope costs less than computing the maps again.
        ctx.save_for_backward(queries, keys, allowed, teacher_queries, teacher_keys, slope)
        return torch.cat(found, dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, allowed, teacher_queries, teacher_keys, slope = ctx.saved_tensors
        scale, teacher_scale = ctx.scales
        for_queries = torch.empty_like(queries)
        repeated = _repeated(keys, queries).to(_wide(queries))
        for_keys = torch.zeros_like(repeated)
        for part in _parts(queries):
            if slope is None:
                may = allowed[:, :, part]
                log_student = _log_rows(queries[:, :, part], keys, may, scale)
                teacher = _log_rows(teacher_queries[:, :, part], teacher_keys, may, teacher_scale).exp_()
                descent = _slope(log_student, teacher, may)
            else:
                descent = slope
            descent = descent * (scale * gradient[:, :, part, None])
            for_queries[:, :, part] = (descent @ repeated).to(queries.dtype)
            for_keys += descent.transpose(2, 3) @ queries[:, :, part].to(descent.dtype)
        rows, kv_heads, positions, dim = keys.shape
        grouped = for_keys.view(rows, kv_heads, -1, positions, dim).sum(dim=2)
        return for_queries, grouped.to(keys.dtype), None, None, None, None, None


def _slope(log_student: Tensor, teacher: Tensor, may: Tensor) -> Tensor:
    """d KL / d score = a_student - a_teacher; 0 where a query may not look. Takes both tensors' storage."""
    return log_student.exp_().sub_(teacher).masked_fill_(~may, 0.0)


def _parts(queries: Tensor) -> list[slice]:
    return [slice(start, start + QUERIES_AT_ONCE) for start in range(0, queries.shape[2], QUERIES_AT_ONCE)]


def _log_rows(queries: Tensor, keys: Tensor, may: Tensor, scale: float) -> Tensor:
    """Log attention rows; a query that may look nowhere has not-a-numbers, which the callers leave out by `may`."""
    wide = _wide(queries)
    scores = scale * (queries.to(wide) @ _repeated(keys, queries).to(wide).transpose(2, 3))
    return scores.masked_fill_(~may, float("-inf")).log_softmax(dim=-1)


def _repeated(keys: Tensor, queries: Tensor) -> Tensor:
    """Each key head once for every query head of its group."""
    return keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)


def _wide(queries: Tensor) -> torch.dtype:
    return torch.promote_types(queries.dtype, torch.float32)
