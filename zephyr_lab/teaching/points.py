"""The point that each method should reach with all preferences known, from its first-order conditions, in numpy.

Nothing here uses the losses or their gradients: the conditions are derived by hand and solved as equations, so that
a run of the losses which ends elsewhere shows a fault in one of the two. Each function takes toys and gives
log-probabilities, shape (toy, prompt, answer). Of one toy, with tables of shape (prompt, answer): p(y, z) is the chance
that y is preferred to z, w(y, z) that the two are compared (sums to 1, symmetric).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import root
from scipy.special import expit

from zephyr_lab.teaching.toy import Table, Toy, pair_shares, preference_chances

Array = np.ndarray


class OneToy(NamedTuple):
    """What is known of one toy: log pi_ref and rewards, shape (prompt, answer); p and w, (prompt, answer, answer)."""

    reference: Array
    rewards: Array
    chances: Array
    pairs: Array


def regularised_optimum(toy: Toy) -> Table:
    """log of pi_ref exp(r / beta) / Z: where DPO, RLOO, PPO and the exact policy gradient should end (eq. 4)."""
    return _each(toy, lambda one: _normalised(one.reference + one.rewards / toy.beta))


def ipo(toy: Toy, *, tau: float) -> Table:
    """log of pi_ref exp(p(y beats mu) / tau) / Z with mu = pi_ref, which draws the pairs.

    IPO is least squares of h(y, z) = f(y) - f(z) against (p(y, z) - 1/2) / tau under mu(y) mu(z); the condition for
    f(y) is f(y) - mean f = mean over z of that target, so f is p(y beats mu) / tau up to a constant. Pairs of equal
    answers add 0 on both sides, so leaving them out changes nothing.
    """

    def point(one: OneToy) -> Array:
        beats = (one.chances * np.exp(one.reference)[:, None, :]).sum(-1)
        return _normalised(one.reference + beats / tau)

    return _each(toy, point)


def cdpo(toy: Toy, *, label_smoothing: float) -> Table:
    """log of pi_ref exp(s / beta) / Z, where s solves: sum over z of w(y, z) (q(y, z) - sigmoid(s_y - s_z)) = 0.

    q = (1 - e) p + e (1 - p) is what the smoothed labels say. With two answers sigmoid(s_1 - s_2) = q exactly; with
    more no s meets all q at once, and these are the conditions of the closest (maximum likelihood) one.
    """

    def conditions(scores: Array, chance: Array, pair: Array) -> Array:
        return (pair * (chance - expit(scores[:, None] - scores[None, :]))).sum(1)

    def point(one: OneToy) -> Array:
        smoothed = (1 - label_smoothing) * one.chances + label_smoothing * (1 - one.chances)
        return _normalised(one.reference + _scores(conditions, smoothed, one.pairs) / toy.beta)

    return _each(toy, point)


def simpo(toy: Toy, *, beta: float, gamma: float) -> Table:
    """log of exp(s / beta) / Z, where s solves the conditions of SimPO; the reference has no part in it.

    sum over z of w (p sigmoid(g - d) - (1 - p) sigmoid(g + d)) = 0 with d = s_y - s_z, g = gamma. g = 0 gives s = r.
    With two answers x = e^d is the positive root of (1 - p) e^-g x^2 - (2 p - 1) x - p e^-g = 0.
    """

    def conditions(scores: Array, chance: Array, pair: Array) -> Array:
        d = scores[:, None] - scores[None, :]
        return (pair * (chance * expit(gamma - d) - (1 - chance) * expit(gamma + d))).sum(1)

    def point(one: OneToy) -> Array:
        return _normalised(_scores(conditions, one.chances, one.pairs) / beta)

    return _each(toy, point)


def orpo(toy: Toy, *, weight: float) -> Table:
    """log pi of ORPO's conditions; the reference has no part in it.

    With o = log(pi / (1 - pi)) and D(y) the share of y among chosen answers, for each y:
    D(y) + weight * sum over z of w (p - sigmoid(o_y - o_z)) / (1 - pi_y) = nu pi_y, pi summing to 1. Weight 0 gives D.
    """

    def point(one: OneToy) -> Array:
        prompts = zip(one.chances, one.pairs, strict=True)
        return np.stack([_orpo_prompt(chances, pairs, weight) for chances, pairs in prompts])

    return _each(toy, point)


def kto(toy: Toy, *, beta: float) -> Table:
    """log pi of KTO's fixed point, -inf for answers that lose more often than they win.

    With c(y) = share of y among chosen - among rejected answers, KTO's gradient is that of
    c(y) sigmoid(beta (r_y - z)), r = log(pi / pi_ref), z = KL(pi || pi_ref) held still. An answer with c < 0 is pushed
    down for ever, so its probability goes to 0; on the others c(y) sigmoid'(beta (r_y - z)) = nu pi_y. z is one number
    for all prompts.
    """
    return _each(toy, lambda one: _kto_point(one, beta))


def supervised(toy: Toy) -> Table:
    """log of each answer's share among chosen ones: where fine-tuning on chosen answers ends."""
    return _each(toy, lambda one: np.log(2 * (one.pairs * one.chances).sum(-1)))


def _each(toy: Toy, point: Callable[[OneToy], Array]) -> Table:
    """The point of every toy, each computed by itself."""
    known = (toy.reference, toy.rewards, preference_chances(toy), pair_shares(toy))
    tables = zip(*(table.numpy() for table in known), strict=True)
    return torch.from_numpy(np.stack([point(OneToy(*one)) for one in tables]))


def _kto_point(one: OneToy, beta: float) -> Array:
    surplus = 2 * (one.pairs * one.chances).sum(-1) - 2 * (one.pairs * (1 - one.chances)).sum(-1)
    winners = surplus > 0
    log_surplus = np.log(np.where(winners, surplus, 1.0))
    policy = _normalised(np.where(winners, log_surplus, -np.inf))

    def unpack(unknown: Array) -> tuple[Array, Array, float]:
        table = np.full(one.reference.shape, -np.inf)
        table[winners] = unknown[: winners.sum()]
        return table, unknown[winners.sum() : -1], unknown[-1]

    def conditions(unknown: Array) -> Array:
        table, multipliers, z = unpack(unknown)
        ratio = np.where(winners, table - one.reference, 0.0)
        slope = log_surplus + _log_slope(beta * (ratio - z))
        stationary = (slope - multipliers[:, None] - np.where(winners, table, 0.0))[winners]
        sums = np.exp(table).sum(-1) - 1
        divergence = (np.exp(table) * ratio).sum(-1).mean() - z
        return np.concatenate([stationary, sums, [divergence]])

    z = float((np.exp(policy) * np.where(winners, policy - one.reference, 0.0)).sum(-1).mean())
    begin = np.concatenate([policy[winners], np.zeros(len(one.reference)), [z]])
    return unpack(_accepted(root(conditions, begin, tol=1e-13).x, conditions))[0]


def _orpo_prompt(chances: Array, pairs: Array, weight: float) -> Array:
    chosen = 2 * (pairs * chances).sum(1)

    def conditions(unknown: Array, weight: float) -> Array:
        logits, nu = unknown[:-1], unknown[-1]
        policy = np.minimum(np.exp(logits), 1 - 1e-12)
        odds = logits - np.log1p(-policy)
        pull = 2 * (pairs * (chances - expit(odds[:, None] - odds[None, :]))).sum(1)
        return np.append(chosen + weight * pull / (1 - policy) - nu * policy, policy.sum() - 1)

    # from weight 0, where the solution is known, in steps that each start from the one before
    solution = np.append(np.log(chosen), 1.0)
    for part in np.linspace(0, 1, 1 + max(1, round(10 * weight)))[1:]:
        solution = root(conditions, solution, args=(part * weight,), tol=1e-13).x
    return _accepted(solution, lambda unknown: conditions(unknown, weight))[:-1]


def _scores(conditions: Callable[[Array, Array, Array], Array], chances: Array, pairs: Array) -> Array:
    """Scores of each prompt's answers that meet `conditions`, of which there is one too many (they sum to 0): the last
    gives way to "the mean score is 0"."""

    def solved(chance: Array, pair: Array) -> Array:
        def square(scores: Array) -> Array:
            return np.append(conditions(scores, chance, pair)[:-1], scores.mean())

        return _accepted(root(square, np.zeros(len(chance)), tol=1e-13).x, square)

    return np.stack([solved(*prompt) for prompt in zip(chances, pairs, strict=True)])


def _accepted(solution: Array, conditions: Callable[[Array], Array]) -> Array:
    worst = np.abs(conditions(solution)).max()
    if not worst < 1e-9:
        raise ValueError(f"the first-order conditions are not met: the worst is off by {worst:.1e}")
    return solution


def _normalised(logits: Array) -> Array:
    largest = logits.max(-1, keepdims=True)
    return logits - (largest + np.log(np.exp(logits - largest).sum(-1, keepdims=True)))


def _log_slope(values: Array) -> Array:
    """log of sigmoid'(v) = sigmoid(v) sigmoid(-v)."""
    return -np.logaddexp(0, values) - np.logaddexp(0, -values)
