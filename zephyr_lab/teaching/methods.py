"""What each method descends on the toy: the library's own losses, in expectation over known shares of preferences.

`shares` says how often each ordered pair (chosen, rejected) occurs: the population's chances (`toy.outcome_shares`), or
counts of drawn preferences over their number. Every answer is one token long, so sums and means agree.
"""

from collections.abc import Callable

import torch

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.cdpo import cdpo_loss
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.ipo import ipo_loss
from zephyr_lab.losses.kto import ResponseLogProbs, kto_loss
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs
from zephyr_lab.losses.orpo import orpo_loss
from zephyr_lab.losses.reward_model import reward_model_loss
from zephyr_lab.losses.simpo import simpo_loss
from zephyr_lab.teaching.toy import PairTable, Table, Toy, ToyNumbers, every_pair, kl, objective

PairLoss = Callable[[PairLogProbs, PairLogProbs], PairScores]


def dpo(toy: Toy, policy: Table, shares: PairTable) -> ToyNumbers:
    """Expected DPO loss, shape (toy,)."""
    return expected(toy, policy, shares, lambda ours, theirs: dpo_loss(ours, theirs, beta=toy.beta))


def ipo(toy: Toy, policy: Table, shares: PairTable, *, tau: float) -> ToyNumbers:
    """Expected IPO loss, shape (toy,)."""
    return expected(toy, policy, shares, lambda ours, theirs: ipo_loss(ours, theirs, tau=tau))


def cdpo(toy: Toy, policy: Table, shares: PairTable, *, label_smoothing: float) -> ToyNumbers:
    """Expected cDPO loss, shape (toy,); beta is the toy's."""
    return expected(
        toy,
        policy,
        shares,
        lambda ours, theirs: cdpo_loss(ours, theirs, beta=toy.beta, label_smoothing=label_smoothing),
    )


def orpo(toy: Toy, policy: Table, shares: PairTable, *, weight: float) -> ToyNumbers:
    """Expected ORPO loss, shape (toy,); the reference is not looked at."""
    return expected(toy, policy, shares, lambda ours, _: orpo_loss(ours, _one_token(ours), weight=weight))


def simpo(toy: Toy, policy: Table, shares: PairTable, *, beta: float, gamma: float) -> ToyNumbers:
    """Expected SimPO loss, shape (toy,); the reference is not looked at."""
    return expected(toy, policy, shares, lambda ours, _: simpo_loss(ours, _one_token(ours), beta=beta, gamma=gamma))


def kto(toy: Toy, policy: Table, shares: PairTable, *, beta: float) -> ToyNumbers:
    """Expected KTO loss, shape (toy,): each preference gives one desirable and one undesirable answer.

    The reference point is the exact KL(policy || reference), averaged over prompts, of each toy.
    """
    marked = torch.stack([shares.sum(-1), shares.sum(-2)], dim=1)  # toy, desirable or not, prompt, answer
    desirable = torch.tensor([True, False])[:, None].expand(2, policy[0].numel()).reshape(-1)
    points = kl(policy, toy.reference).detach()
    losses = []
    for place, point in enumerate(points):
        both = (table[place].flatten().repeat(2) for table in (policy, toy.reference))
        losses.append(kto_loss(ResponseLogProbs(*both), desirable, point, beta=beta))
    return (torch.stack(losses) * marked.flatten(1)).sum(1)


def supervised(toy: Toy, policy: Table, shares: PairTable) -> ToyNumbers:
    """Expected cross-entropy of the chosen answers, shape (toy,): supervised fine-tuning on what was preferred."""
    return -(shares.sum(-1) * policy).sum((-2, -1))


def without_reference(toy: Toy, policy: Table, shares: PairTable) -> ToyNumbers:
    """log pi(rejected) - log pi(chosen), expected, shape (toy,): what is left of DPO without reference and sigmoid."""
    return expected(toy, policy, shares, lambda ours, _: ours.rejected - ours.chosen)


def reward_model(rewards: Table, shares: PairTable) -> ToyNumbers:
    """Expected reward model loss of a table of rewards, shape (toy,)."""
    scores = every_pair(rewards)
    return _per_toy(reward_model_loss(scores.chosen, scores.rejected), shares)


def policy_gradient(toy: Toy, policy: Table) -> ToyNumbers:
    """-objective, shape (toy,), whose exact gradient is the policy gradient with every answer counted."""
    return -objective(toy, policy)


def expected(toy: Toy, policy: Table, shares: PairTable, loss: PairLoss) -> ToyNumbers:
    """Any loss of pairs, a function of (policy, reference) with one loss a pair, in expectation, shape (toy,)."""
    return _per_toy(loss(every_pair(policy), every_pair(toy.reference)), shares)


def _per_toy(losses: PairScores, shares: PairTable) -> ToyNumbers:
    """Losses of all ordered pairs, weighted by their shares and summed for each toy.

    An answer against itself has no share; where a table has values without bound, its loss is not looked at.
    """
    return torch.where(shares.flatten(1) > 0, losses.view(len(shares), -1) * shares.flatten(1), 0.0).sum(1)


def _one_token(policy: PairLogProbs) -> PairLengths:
    ones = torch.ones(policy.chosen.shape, dtype=torch.int64)
    return PairLengths(ones, ones)
