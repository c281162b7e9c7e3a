"""Distillation of attention maps: each query row of the student follows the teacher's.

Kothari et al. 2024, arXiv 2406.19112, equations (3) and (4). Maps come in, losses go out; no model is touched. Whole
maps are the plain form, and the oracle of `losses.fast.attention_blocks`, which never holds one.
"""

from collections.abc import Sequence

import torch

from zephyr_lab.core.shapes import at_least_float32, require_same_shape
from zephyr_lab.losses.shapes import Allowed, AttentionMaps, HeadScores, Keys, Queries, TeacherMaps, TokenScores


def attention_map(queries: Queries, keys: Keys, allowed: Allowed, *, scale: float) -> AttentionMaps:
    """softmax(scale * q k) over the keys that each query may look at (eq. 3).

    Query heads share keys in groups of heads / kv_heads neighbours. A query that may look nowhere has a row of zeros.
    """
    queries = at_least_float32(queries)
    keys = at_least_float32(keys).repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    scores = scale * queries @ keys.transpose(2, 3)
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
    return torch.where(allowed, weights, 0.0)  # also turns the NaN rows of queries that see nothing into zeros


def attention_kl(student: AttentionMaps, teacher: TeacherMaps, allowed: Allowed) -> HeadScores:
    """sum over keys i <= t of a_teacher log(a_teacher / a_student) in nats (eq. 4), shape (row, head, position).

    Cells outside `allowed` add nothing, so a query that may look nowhere has 0. No gradient reaches the teacher.
    Raises ValueError where the shapes differ.
    """
    require_same_shape(student=student, teacher=teacher)
    student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
    counted = allowed & (teacher > 0)
    # Logarithms of 1 where nothing is counted: a gradient through log 0 would be NaN, even times zero.
    ratio = torch.where(counted, teacher, 1.0).log() - torch.where(counted, student, 1.0).log()
    return torch.where(counted, teacher * ratio, 0.0).sum(dim=-1)


def group_means(maps: TeacherMaps, group: int) -> AttentionMaps:
    """Mean map of every `group` neighbouring heads: what a head follows whose teacher has that many for it."""
    return maps.unflatten(1, (-1, group)).mean(dim=2)


def attention_scores(layers: Sequence[HeadScores]) -> TokenScores:
    """Mean over layers and heads of each position's divergence, shape (row, position).

    The rest of eq. (5)'s normalisation, over positions and batch, is a mean of `losses.kd`, as for predictions.
    """
    return torch.stack([layer.mean(dim=1) for layer in layers]).mean(dim=0)
