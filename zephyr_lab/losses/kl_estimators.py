"""Estimates of KL(pi || pi_ref) from answers drawn from pi: three estimators, their bias and their spread.

Schulman 2020, "Approximating KL divergence" (names k1, k2, k3); k3 is GRPO's (Shao et al. 2024, arXiv 2402.03300, eq.
4). Log-probabilities of the drawn answers, or tokens, come in; an estimate for each goes out, in nats.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from zephyr_lab.core.shapes import at_least_float32, require_same_shape
from zephyr_lab.losses.shapes import AnyScores, Distribution


def k1(policy: AnyScores, reference: AnyScores) -> AnyScores:
    """log pi - log pi_ref, elementwise: unbiased, often negative, widely spread."""
    require_same_shape(policy=policy, reference=reference)
    return at_least_float32(policy) - at_least_float32(reference)


def k2(policy: AnyScores, reference: AnyScores) -> AnyScores:
    """(log pi - log pi_ref)^2 / 2, elementwise: never negative, biased unless the two are close."""
    return k1(policy, reference).square() / 2


def k3(policy: AnyScores, reference: AnyScores) -> AnyScores:
    """pi_ref / pi - 1 - log(pi_ref / pi), elementwise: never negative; unbiased where pi gives all that pi_ref gives.

    k1 plus a term whose mean under pi is 0 (a control variate). One answer that pi hardly gives makes it huge.
    """
    log_ratio = k1(policy, reference)
    return torch.expm1(-log_ratio) + log_ratio


ESTIMATORS: dict[str, Callable[[AnyScores, AnyScores], AnyScores]] = {"k1": k1, "k2": k2, "k3": k3}


@dataclass(frozen=True)
class Moments:
    """Of one estimator's single draw: `bias` = mean less the true KL, `sd` = standard deviation, both in nats."""

    bias: AnyScores
    sd: AnyScores


def exact_kl(policy: Distribution, reference: Distribution) -> AnyScores:
    """KL(pi || pi_ref) of whole distributions, summed over the last axis, in nats.

    Both are log-probabilities over all answers; an answer that pi never gives (-inf) adds nothing.
    """
    return _mean(policy, _where_possible(policy, k1(policy, reference)))


def moments(policy: Distribution, reference: Distribution, *, estimator: str) -> Moments:
    """Bias and standard deviation of `estimator` ("k1", "k2", "k3") under draws from pi, by summing over all answers.

    Raises ValueError for an unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}")
    estimates = _where_possible(policy, ESTIMATORS[estimator](policy, reference))
    mean = _mean(policy, estimates)
    variance = _mean(policy, (estimates - mean[..., None]).square())
    return Moments(bias=mean - exact_kl(policy, reference), sd=variance.sqrt())


def _mean(policy: Distribution, numbers: Distribution) -> AnyScores:
    return (at_least_float32(policy).exp() * numbers).sum(dim=-1)


def _where_possible(policy: Distribution, numbers: Distribution) -> Distribution:
    return torch.where(policy > -torch.inf, numbers, 0.0)
