"""The attention loss from queries and keys, a few answer rows at a time, with gradients made on the way forward.

Equations (3) and (4) of Kothari et al. 2024, arXiv 2406.19112, summed with shares that are known beforehand: so each
block of scores is computed once, and only for rows that count. Kept are the gradients of queries and keys, as large as
these; never a map. Equal to `losses.attention_kd` on whole maps (tested), windows, padding and shared keys included.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr_lab.core.shapes import TokenMask
from zephyr_lab.losses.fast.kd_head import refuse_half, softmax, wide
from zephyr_lab.losses.shapes import Keys, Queries, Scalar, TeacherKeys, TeacherQueries, TokenScores

CPU_SCORES, GPU_SCORES = 2**18, 2**25  # of all heads at once: on a CPU what its cache keeps
LEAST_QUERIES, MOST_QUERIES = 8, 64
# Finite, so that 0 * (low - low) is 0 where -inf would give NaN; its exponential is 0 all the same.
BANNED = -1e30


@dataclass(frozen=True, slots=True)
class Sight:
    """What a query may look at: the keys from `begins` to itself, and of these only `real` ones (None: all are).

    begins: position of the first such key, (row, position); past the query's own where it may look nowhere.
    """

    begins: Int[Tensor, "row position"]
    real: TokenMask | None


def sight(
    rows: int, positions: int, *, window: int | None, real: TokenMask | None = None,
    places: Int[Tensor, "row position"] | None = None, device: torch.device | None = None,
) -> Sight:  # fmt: skip
    """The sight of causal attention.

    window: keys that a query sees, itself included; None: all before it. real: False on padding, wherever that is.
    places: position of each token in its own document, where rows are packed; documents do not see each other.
    Padding itself must not count: what it looks at is not said here.
    """
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1 (a token sees itself), got {window}; None for no window")
    own = torch.arange(positions, device=device).expand(rows, positions)
    begins = torch.zeros_like(own) if places is None else own - places
    if window is not None:
        begins = begins.maximum(own - window + 1)
    if real is None or bool(real.all()):
        return Sight(begins, None)
    first = torch.where(real.any(dim=1), real.long().argmax(dim=1), positions)
    begins = begins.maximum(first[:, None])
    # What follows the first real token has holes unless all padding is on the right, where no real query sees it.
    length = first + real.sum(dim=1)
    holes = ~real & (own >= first[:, None]) & (own < length[:, None])
    return Sight(begins, real if bool(holes.any()) else None)


def attention_kl_sum(
    queries: Queries, keys: Keys, seen: Sight, shares: TokenScores, *, scale: float, teacher_queries: TeacherQueries,
    teacher_keys: TeacherKeys, teacher_scale: float, group: int = 1,
) -> Scalar:  # fmt: skip
    """Sum over rows, heads and positions of share * KL(teacher's row, student's row) in nats (eq. 4), a scalar.

    Positions of share 0 cost nothing. For the mean over heads and layers, divide the shares by heads * layers. Query
    heads share keys in groups of neighbours; the two models may differ in kv_heads and in dim. The teacher has `group`
    heads for each of the student's, which follows their mean map. No gradient reaches the teacher; a second backward
    raises RuntimeError. Raises ValueError where sizes do not fit, and for float16.
    """
    refuse_half(queries)
    rows, heads, positions = queries.shape[:3]
    if teacher_queries.shape[:3] != (rows, heads * group, positions):
        raise ValueError(
            f"rows, heads and positions differ: student {tuple(queries.shape[:3])}, "
            f"teacher {tuple(teacher_queries.shape[:3])}" + (f" in groups of {group}" if group > 1 else "")
        )
    for name, asked, shared in (("keys", queries, keys), ("teacher_keys", teacher_queries, teacher_keys)):
        if asked.shape[1] % shared.shape[1]:
            raise ValueError(
                f"{name} have {shared.shape[1]} heads, which do not divide the {asked.shape[1]} of the queries"
            )
    if shares.requires_grad:
        raise ValueError("shares must be plain numbers: no gradient is made for them; detach() them")
    return _Blocked.apply(
        queries, keys, seen, shares, scale, teacher_queries.detach(), teacher_keys.detach(), teacher_scale, group
    )


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, seen: Sight, shares: Tensor, scale: float, teacher_queries: Tensor,
        teacher_keys: Tensor, teacher_scale: float, group: int,
    ) -> Tensor:  # fmt: skip
        trained = any(ctx.needs_input_grad[:2])
        total = torch.zeros((), dtype=torch.float64, device=queries.device)
        for_queries: list[tuple[Tensor, list[Tensor]]] = []  # of rows that count alone: until backward nothing else is
        for_keys = torch.zeros_like(keys, dtype=wide(keys.dtype)) if trained else None
        with torch.autocast(queries.device.type, enabled=False):
            for row in range(len(queries)):
                student = _Side(queries[row], keys[row], scale)
                teacher = _Side(teacher_queries[row], teacher_keys[row], teacher_scale)
                spent: list[Tensor] = []
                for block in _blocks(shares[row], seen, row, queries.shape[1]):
                    p, log_sum_p, theirs = teacher.rows(block)
                    q, log_sum_q, own = student.rows(block)
                    if group > 1:  # a mean of maps has no scores: its entropy is taken from its own rows
                        p = p.view(-1, group, *p.shape[1:]).mean(dim=1)
                        values = (torch.xlogy(p, p) - p * own).sum(dim=-1) + log_sum_q
                    else:
                        values = theirs.sub_(own).mul_(p).sum(dim=-1) - log_sum_p + log_sum_q  # (head, query)
                    total += (values.double() @ block.shares.double()).sum()
                    if trained:
                        spent.append(student.spend(q.sub_(p), block, for_keys[row]))
                for_queries.append((shares[row].nonzero().squeeze(1), spent))
        ctx.gradients = (for_queries, for_keys.to(keys.dtype)) if trained else None
        ctx.shape = queries.shape
        return total.to(wide(queries.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the attention loss's gradients are spent by one backward; call the loss again")
        (for_queries, for_keys), ctx.gradients = ctx.gradients, None
        gradient = gradient.to(for_keys.dtype)
        whole = for_keys.new_zeros(ctx.shape)
        for row, (counted, spent) in enumerate(for_queries):
            if spent:
                whole[row][:, counted] = torch.cat(spent, dim=1).mul_(gradient)
        return (whole, for_keys.mul_(gradient), *[None] * 7)


@dataclass(frozen=True, slots=True)
class _Block:
    """Some queries that count, the span of keys that any of them sees, and which cells of its edges are banned."""

    queries: Tensor
    shares: Tensor
    keys: slice
    banned: tuple[tuple[slice, Tensor], ...]  # columns of the span, and where in them a query may not look


class _Side:
    """Queries and keys of one model in one row of the batch."""

    def __init__(self, queries: Tensor, keys: Tensor, scale: float) -> None:
        dtype = wide(queries.dtype)
        self._queries, self._keys, self._scale = queries, keys.to(dtype), scale

    def rows(self, block: _Block) -> tuple[Tensor, Tensor, Tensor]:
        """Attention rows of a block, the logs of their denominators, and their scores scale * q k, (head, query, key):
        one product for each key head, over the queries of its whole group."""
        scores = torch.bmm(self._grouped(block), self._keys[:, block.keys].transpose(1, 2))
        scores = scores.view(self._queries.shape[0], len(block.queries), -1)
        for columns, banned in block.banned:
            scores[:, :, columns].masked_fill_(banned, BANNED)
        rows, log_sums = softmax(scores)
        return rows, log_sums, scores

    def spend(self, slopes: Tensor, block: _Block, for_keys: Tensor) -> Tensor:
        """Adds to the keys' gradient; the gradient of the block's queries, (head, query, dim)."""
        shares = block.shares.to(slopes.dtype)
        grouped = slopes.view(len(self._keys), -1, slopes.shape[-1])
        weighted = (self._grouped(block).view(len(slopes), -1, self._keys.shape[-1]) * shares[:, None]).view(
            len(self._keys), -1, self._keys.shape[-1]
        )
        for_keys[:, block.keys].baddbmm_(grouped.transpose(1, 2), weighted)
        products = torch.bmm(grouped, self._keys[:, block.keys]).view(len(slopes), -1, self._keys.shape[-1])
        return (products * (self._scale * shares)[:, None]).to(self._queries.dtype)

    def _grouped(self, block: _Block) -> Tensor:
        chosen = self._queries[:, block.queries].to(self._keys.dtype) * self._scale
        return chosen.reshape(len(self._keys), -1, chosen.shape[-1])


def _blocks(shares: Tensor, seen: Sight, row: int, heads: int) -> Iterator[_Block]:
    """The counted queries of a row, block after block."""
    counted = shares.nonzero().squeeze(1)
    positions, begins = counted.tolist(), seen.begins[row, counted].tolist()
    room = CPU_SCORES if shares.device.type == "cpu" else GPU_SCORES
    start = 0
    while start < len(positions):
        width = max(positions[start] + 1 - begins[start], 1)
        stop = start + min(max(room // (heads * width), LEAST_QUERIES), MOST_QUERIES)
        part = slice(start, stop)
        first, last = min(*begins[part], positions[start]), positions[part][-1]
        edges = ((first, min(max(begins[part]), last + 1)), (positions[start] + 1, last + 1))
        if seen.real is not None:
            edges = ((first, last + 1),)
        cells = tuple(
            (slice(low - first, high - first), _banned(counted[part], seen, row, low, high))
            for low, high in edges
            if low < high
        )
        yield _Block(counted[part], shares[counted[part]], slice(first, last + 1), cells)
        start = stop


def _banned(queries: Tensor, seen: Sight, row: int, low: int, high: int) -> Tensor:
    """Where queries may not look among the keys from `low` to before `high`, (query, key)."""
    keys = torch.arange(low, high, device=queries.device)
    banned = (keys > queries[:, None]) | (keys < seen.begins[row, queries, None])
    return banned if seen.real is None else banned | ~seen.real[row, low:high]
