"""Finding a judge's planted errors again: noise of scores, and noise, position and length bias of comparisons."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from zephyr_lab.world.judge import Comparison

_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(0.975)
_SMALLEST_SD, _LARGEST_SD = 1e-3, 50.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairErrors:
    """Errors of a pairwise judge, in points of the rubric (length: points a word)."""

    noise_sd: Estimate
    position_bias: Estimate
    length_bias: Estimate


def noise_sd(exact: Sequence[float], scores: Sequence[float], *, low: float = 1.0, high: float = 10.0) -> Estimate:
    """The sd of a judge's error from its scores and the exact ones: maximum likelihood, interval from its profile.

    A score at `low` or `high` was kept within the scale, so it counts as "at least as far out" (Tobit); without this
    the sd comes out too small. Where scores are rounded, give the ends half a step further in. Raises ValueError where
    the lengths differ or all errors are zero.
    """
    errors = np.asarray(scores, dtype=float) - np.asarray(exact, dtype=float)
    inside = np.array([low < score < high for score in scores])
    if not np.any(errors != 0):
        raise ValueError("all scores are exact: there is no noise to measure")
    squares, count = float(np.sum(errors[inside] ** 2)), int(inside.sum())
    room = [  # how far the error went at least, beyond the end of the scale
        (high - truth) if score >= high else (truth - low)
        for truth, score in zip(exact, scores, strict=True)
        if not low < score < high
    ]

    def log_likelihood(log_sd: float) -> float:
        sd = math.exp(log_sd)
        tails = sum(math.log(max(_NORMAL.cdf(-distance / sd), 1e-300)) for distance in room)
        return tails - count * log_sd - squares / (2 * sd**2)

    ends = math.log(_SMALLEST_SD), math.log(_LARGEST_SD)
    best = _maximum(log_likelihood, *ends)
    limit = log_likelihood(best) - _Z**2 / 2
    below = _crossing(lambda x: log_likelihood(x) - limit, ends[0], best)
    above = _crossing(lambda x: limit - log_likelihood(x), best, ends[1])
    return Estimate(math.exp(best), math.exp(below), math.exp(above))


def _maximum(function: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search for the maximum of a function with one peak."""
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-9:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if function(left) < function(right):
            low = left
        else:
            high = right
    return (low + high) / 2


def _crossing(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing function passes zero, by bisection."""
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def pair_errors(comparisons: Sequence[Comparison]) -> PairErrors:
    """Noise, position and length bias of a pairwise judge: probit regression on the exact difference and the lengths.

    P(second preferred) = Phi((difference + length_bias longer - position_bias) / noise_sd). Draws are left out.
    Intervals are Wald's, by the delta method. Raises ValueError where the verdicts leave nothing to estimate: fewer
    than 10, all alike, or without error.
    """
    judged = [one for one in comparisons if one.preference != 1.5]
    if len(judged) < 10:
        raise ValueError(f"{len(judged)} comparisons without draws are too few to estimate three errors (at least 10)")
    design = np.array([[one.difference, one.longer, -1.0] for one in judged])
    outcome = np.array([one.preference == 2.0 for one in judged], dtype=float)
    weights, covariance = _probit(design, outcome)
    slope, length, position = (float(weight) for weight in weights)
    gradients = np.array([[-1 / slope, 0, 0], [-length / slope, 1, 0], [-position / slope, 0, 1]]) / slope
    errors = np.sqrt(np.diag(gradients @ covariance @ gradients.T))
    values = (1 / slope, length / slope, position / slope)
    estimates = [Estimate(v, v - _Z * float(e), v + _Z * float(e)) for v, e in zip(values, errors, strict=True)]
    return PairErrors(noise_sd=estimates[0], length_bias=estimates[1], position_bias=estimates[2])


def _probit(design: np.ndarray, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and their covariance by Fisher scoring."""
    weights = np.zeros(design.shape[1])
    for _ in range(100):
        linear = design @ weights
        likely = np.clip([_NORMAL.cdf(value) for value in linear], 1e-12, 1 - 1e-12)
        density = np.exp(-0.5 * linear**2) / math.sqrt(2 * math.pi)
        variance = likely * (1 - likely)
        information = design.T @ (design * (density**2 / variance)[:, None])
        if np.linalg.cond(information) > 1e12:
            raise ValueError("the verdicts are all alike or without error: no noise or bias can be estimated")
        step = np.linalg.solve(information, design.T @ (density * (outcome - likely) / variance))
        weights += step
        if np.max(np.abs(step)) < 1e-9:
            return weights, np.linalg.inv(information)
    raise ValueError("the verdicts are all alike or without error: no noise or bias can be estimated")
