"""The three estimators against SciPy's entropy and against draws."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from zephyr_lab.losses import kl_estimators

P, Q = np.array([0.6, 0.3, 0.1]), np.array([0.3, 0.3, 0.4])


def logs(probabilities):
    return torch.log(torch.tensor(probabilities, dtype=torch.float64))


def test_the_exact_kl_is_scipys():
    assert kl_estimators.exact_kl(logs(P), logs(Q)).item() == pytest.approx(entropy(P, Q))


def test_an_answer_that_the_policy_never_gives_adds_nothing():
    # log(1 / 0.5) for sure
    assert kl_estimators.exact_kl(logs([1.0, 0.0]), logs([0.5, 0.5])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(estimator):
    assert kl_estimators.moments(logs(P), logs(Q), estimator=estimator).bias.item() == pytest.approx(0.0, abs=1e-12)


def test_k2_is_biased_by_what_enumeration_says():
    mean = sum(p * math.log(p / q) ** 2 / 2 for p, q in zip(P, Q, strict=True))
    assert kl_estimators.moments(logs(P), logs(Q), estimator="k2").bias.item() == pytest.approx(mean - entropy(P, Q))


def test_k3_misses_what_the_policy_never_draws():
    # pi_ref's mass beyond pi's reach, 1/2, is the bias
    moments = kl_estimators.moments(logs([1.0, 0.0]), logs([0.5, 0.5]), estimator="k3")
    assert moments.bias.item() == pytest.approx(-0.5)


def test_close_policies_make_k3_far_steadier_than_k1():
    near = logs(Q * np.array([1.05, 1.0, 1 - 0.015 / 0.4]))
    spread = {name: kl_estimators.moments(near, logs(Q), estimator=name).sd.item() for name in ("k1", "k2", "k3")}
    assert spread["k3"] < spread["k1"] / 10
    assert spread["k2"] < spread["k1"] / 10


def test_far_policies_turn_the_order_round():
    # an answer with pi = 1e-4 and pi_ref = 0.5 makes k3 5000 - 1 - log(5000) once in 10,000 draws
    far = [logs([0.9999, 0.0001]), logs([0.5, 0.5])]
    assert kl_estimators.moments(*far, estimator="k3").sd > 10 * kl_estimators.moments(*far, estimator="k1").sd


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_spread_is_that_of_draws(estimator):
    drawn = np.random.default_rng(0).choice(3, size=200_000, p=P)
    estimates = kl_estimators.ESTIMATORS[estimator](logs(P[drawn]), logs(Q[drawn]))
    assert kl_estimators.moments(logs(P), logs(Q), estimator=estimator).sd.item() == pytest.approx(
        estimates.std().item(), rel=0.02
    )


def test_k2_and_k3_are_never_negative_and_k1_is():
    policy, reference = logs(P), logs(Q)
    assert kl_estimators.k1(policy, reference).min() < 0
    assert kl_estimators.k2(policy, reference).min() >= 0
    assert kl_estimators.k3(policy, reference).min() >= 0


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match="one of k1, k2, k3, got 'k4'"):
        kl_estimators.moments(logs(P), logs(Q), estimator="k4")
