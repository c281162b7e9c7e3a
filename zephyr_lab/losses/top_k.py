"""Distillation from a teacher of whom only the likeliest tokens are known: these, and the rest as one class.

Merging classes lets no divergence grow (data processing inequality), so this is a lower bound of equation (2) of
Kothari et al. 2024, arXiv 2406.19112, and equal to it where all tokens are known.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zephyr_lab.core.shapes import Logits, at_least_float32
from zephyr_lab.losses.shapes import TokenScores

UNKNOWN = -1  # in the place of an id, where fewer than k are known at a position

TopIds = Int[Tensor, "row position k"]
TopLogProbs = Float[Tensor, "row position k"]
RestLogProbs = Float[Tensor, "row position"]


def top_k_kl(student: Logits, ids: TopIds, log_probs: TopLogProbs, rest: RestLogProbs) -> TokenScores:
    """sum over the k tokens of p log(p / q), plus r log(r / s), in nats; r and s = 1 - sum of the k, (row, position).

    ids, log_probs: the teacher's k tokens at each position, none twice, UNKNOWN where there are fewer; rest: log r. A
    class of p = 0 or r = 0 adds nothing.
    """
    log_q = at_least_float32(student).log_softmax(dim=-1)
    log_p, log_r = log_probs.detach().to(log_q.dtype), rest.detach().to(log_q.dtype)
    known = (ids != UNKNOWN) & (log_p > float("-inf"))
    chosen = ids.clamp(min=0).long()
    log_p = torch.where(known, log_p, 0.0)  # 0 times a logarithm of 0 would be NaN, in gradients too
    top = torch.where(known, log_p.exp() * (log_p - log_q.gather(-1, chosen)), 0.0).sum(dim=-1)
    left = log_r > float("-inf")
    taken = torch.zeros(log_q.shape, dtype=torch.int32, device=log_q.device)
    taken.scatter_add_(-1, chosen, ((ids != UNKNOWN) & left[..., None]).int())
    # log s as a sum over the other tokens: 1 - sum of the k would be all rounding where that is near 1
    log_s = log_q.masked_fill(taken > 0, float("-inf")).logsumexp(dim=-1)
    log_r = torch.where(left, log_r, 0.0)
    return top + torch.where(left, log_r.exp() * (log_r - log_s), 0.0)
