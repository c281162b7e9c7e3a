"""Which samples a fine-tuned target sees otherwise than its base does: the shift of representations, and a selection.

The EDA paper (arXiv 2603.09527) ranks samples by such a shift, measured with a Mahalanobis distance; its formula could
not be read, so this one is ours: d_t = h_target,t - h_base,t on answer tokens, S the shrunk covariance of h_base,
score = mean_t sqrt(d_t' S^-1 d_t). NumPy alone; no model is touched.
"""

import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky, solve_triangular

Matrix = NDArray[np.float64]
TOP, BOTTOM, RANDOM = "top", "bottom", "random"
RULES = (TOP, BOTTOM, RANDOM)


def shrunk_covariance(features: ArrayLike, *, shrinkage: float) -> Matrix:
    """(1 - shrinkage) C + shrinkage tr(C) / d I of `features`, shape (token, d); C divides by the number of tokens.

    Raises ValueError for fewer than two tokens, values that are not finite, a shrinkage outside 0 to 1, or features
    that never vary.
    """
    rows = _features("features", features)
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage must be from 0 to 1, got {shrinkage}")
    if len(rows) < 2:
        raise ValueError(f"a covariance needs at least two tokens, got {len(rows)}")
    centred = rows - rows.mean(axis=0)
    covariance = centred.T @ centred / len(rows)
    mean_variance = np.trace(covariance) / len(covariance)
    if mean_variance == 0:
        raise ValueError("the features never vary: they have no covariance to measure a shift with")
    return (1 - shrinkage) * covariance + shrinkage * mean_variance * np.eye(len(covariance))


def mahalanobis(differences: ArrayLike, covariance: Matrix) -> Matrix:
    """sqrt(d' S^-1 d) of each row of `differences`, shape (token, d) -> (token,).

    Raises ValueError where `covariance` is not positive definite (a larger shrinkage helps) or of another width.
    """
    rows = _features("differences", differences)
    if covariance.shape != (rows.shape[1], rows.shape[1]):
        raise ValueError(f"covariance must have shape {(rows.shape[1],) * 2}, got {covariance.shape}")
    try:
        factor = cholesky(covariance, lower=True)
    except np.linalg.LinAlgError as error:
        raise ValueError("the covariance is not positive definite: more tokens or a larger shrinkage helps") from error
    return np.linalg.norm(solve_triangular(factor, rows.T, lower=True), axis=0)


def shift_score(base: ArrayLike, target: ArrayLike, covariance: Matrix) -> float:
    """Mean Mahalanobis length of target - base over the answer tokens of one sample, shapes (token, d) each.

    Raises ValueError for unlike shapes, and for a sample without an answer token.
    """
    ours, theirs = _features("target", target), _features("base", base)
    if ours.shape != theirs.shape:
        raise ValueError(f"target {ours.shape} and base {theirs.shape} must have the same shape")
    if not len(ours):
        raise ValueError("a sample needs at least one answer token")
    return float(mahalanobis(ours - theirs, covariance).mean())


def select(scores: Sequence[float], *, share: float, rule: str, seed: int) -> list[int]:
    """Places of ceil(share x n) samples, ascending: those of highest score, of lowest, or drawn by `seed` alone.

    Of equal scores the earlier sample goes first under "top" and "bottom" alike. Raises ValueError for an unknown rule,
    a share outside 0 to 1 (0 excluded), no samples, or a score that is not finite.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    if not len(scores) or not all(math.isfinite(score) for score in scores):
        raise ValueError(f"scores must be finite, at least one, got {len(scores)} of them")
    count = math.ceil(share * len(scores) - 1e-9)  # 0.1 x 30 is 3, whatever the last bit says
    places = range(len(scores))
    if rule == RANDOM:
        return sorted(random.Random(f"selection {seed}").sample(places, count))
    sign = -1.0 if rule == TOP else 1.0
    return sorted(sorted(places, key=lambda place: sign * scores[place])[:count])


def _features(name: str, values: ArrayLike) -> Matrix:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers of shape (token, d), got shape {array.shape}")
    return array
