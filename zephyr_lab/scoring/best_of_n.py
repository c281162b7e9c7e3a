"""Best-of-n from one pool of answers: what the best of n draws is worth, and how far it is from a single draw.

Gao et al. 2023, arXiv 2210.10760, appendix I (the estimator over subsets); Beirami et al. 2024, arXiv 2401.01879 (the
formula for KL is an upper bound, close where answers do not repeat).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import comb


def expected_best(ranked_by: ArrayLike, value: ArrayLike, *, n: int) -> float:
    """Mean `value` of the answer that is best by `ranked_by` among n of a pool, over all subsets of size n, exactly.

    One number an answer in both; equal ranks share their chances. Raises ValueError unless 1 <= n <= answers.
    """
    ranks, values = np.asarray(ranked_by, dtype=float), np.asarray(value, dtype=float)
    size = len(ranks)
    if ranks.shape != values.shape or ranks.ndim != 1:
        raise ValueError(f"ranked_by and value must be lists of one length, got {ranks.shape} and {values.shape}")
    if not 1 <= n <= size:
        raise ValueError(f"n must be from 1 to {size}, the answers of the pool, got {n}")
    chances = best_chances(size, n)
    order = np.argsort(ranks, kind="stable")
    total = 0.0
    for equal in np.split(order, np.flatnonzero(np.diff(ranks[order])) + 1):
        places = np.searchsorted(ranks[order], ranks[equal[0]]) + np.arange(len(equal))
        total += chances[places].sum() * values[equal].mean()
    return float(total)


def best_chances(size: int, n: int) -> np.ndarray:
    """Chance of each rank, 1 the worst of `size`, to be the best of n: C(rank - 1, n - 1) / C(size, n)."""
    return comb(np.arange(size), n - 1) / comb(size, n)


def kl_bound(n: int) -> float:
    """log n - (n - 1) / n, in nats: KL(best-of-n || one draw), exact where no two answers are alike, else above it.

    Raises ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return math.log(n) - (n - 1) / n
