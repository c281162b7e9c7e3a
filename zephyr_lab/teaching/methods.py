"""What each method descends on the toy: the library's own losses, in expectation over known shares of preferences.

`shares` says how often each ordered pair (chosen, rejected) occurs: the population's chances (`toy.outcome_shares`), or
counts of drawn preferences over their number. Every answer is one token long, so sums and means agree.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from zephyr_lab.core import seeds as seeding
from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.cdpo import cdpo_loss
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.ipo import ipo_loss
from zephyr_lab.losses.kto import ResponseLogProbs, kto_loss
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs
from zephyr_lab.losses.orpo import orpo_loss
from zephyr_lab.losses.policy_gradient import kl_penalised_rewards, reinforce_loss, rloo_advantages
from zephyr_lab.losses.ppo import clipped_surrogate_loss
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

    def loss(ours: PairLogProbs, theirs: PairLogProbs) -> PairScores:
        return cdpo_loss(ours, theirs, beta=toy.beta, label_smoothing=label_smoothing)

    return expected(toy, policy, shares, loss)


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
    for index, point in enumerate(points):
        both = (table[index].flatten().repeat(2) for table in (policy, toy.reference))
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

    An answer against itself has no share; its loss, which can be infinite, does not count.
    """
    return torch.where(shares.flatten(1) > 0, losses.view(len(shares), -1) * shares.flatten(1), 0.0).sum(1)


def _one_token(policy: PairLogProbs) -> PairLengths:
    ones = torch.ones(policy.chosen.shape, dtype=torch.int64)
    return PairLengths(ones, ones)


def penalised(toy: Toy, policy: Table) -> Table:
    """r - beta log(pi / pi_ref) of every answer: what policy gradient takes for reward (below eq. 3)."""
    flat = (table.detach().flatten() for table in (toy.rewards, policy, toy.reference))
    return kl_penalised_rewards(*flat, beta=toy.beta).view(policy.shape)


def rloo_over_all_draws(toy: Toy, policy: Table) -> ToyNumbers:
    """RLOO's surrogate loss in expectation over all groups of two draws, shape (toy,): its gradient is exact."""
    square = (*policy.shape, policy.shape[-1])

    def first(table: Table) -> Tensor:
        return table[..., :, None].expand(square)

    def second(table: Table) -> Tensor:
        return table[..., None, :].expand(square)

    rewards = penalised(toy, policy)
    groups = torch.stack([first(rewards), second(rewards)], dim=-1)
    advantages = rloo_advantages(groups.reshape(-1, 2))
    log_probs = torch.stack([first(policy), second(policy)], dim=-1)
    losses = reinforce_loss(log_probs.reshape(-1), advantages.reshape(-1)).view(*square, 2).mean(-1)
    chances = (first(policy) + second(policy)).detach().exp()
    return (chances * losses).sum((-2, -1)).mean(-1)


def ppo_over_all_draws(toy: Toy, *, clip: float, inner: int) -> Callable[[Table], ToyNumbers]:
    """PPO's clipped loss in expectation over the old policy, which is renewed every `inner` calls.

    Advantages are exact: penalised reward less its mean under the old policy. At a fixed point the ratio is 1, where
    the gradient is the policy gradient's, so PPO ends where that does. Raises ValueError for `inner` below 1.
    """
    if inner < 1:
        raise ValueError(f"inner must be at least 1, got {inner} (steps on one set of draws)")
    calls, old, advantages = 0, torch.empty(0), torch.empty(0)

    def loss(policy: Table) -> ToyNumbers:
        nonlocal calls, old, advantages
        if calls % inner == 0:
            old = policy.detach()
            rewards = penalised(toy, old)
            advantages = rewards - (old.exp() * rewards).sum(-1, keepdim=True)
        calls += 1
        losses = clipped_surrogate_loss(policy.flatten(), old.flatten(), advantages.flatten(), clip=clip)
        return (old.exp() * losses.view(policy.shape)).sum(-1).mean(-1)

    return loss


def sampled_rloo(toy: Toy, *, draws: int, samples: int, rate: float, seed: int) -> Table:
    """The policy after RLOO on `draws` answers in all, of which a step takes `samples` to every prompt.

    The rate falls linearly to 0. Logits move by the plain gradient, scaled by the number of prompts; each toy draws
    from a generator of its own. Raises ValueError for fewer than two samples a prompt, and for draws that are not a
    whole number of steps.
    """
    toys, prompts, answers = toy.rewards.shape
    if draws % (prompts * samples):
        raise ValueError(f"draws must be a whole multiple of prompts x samples = {prompts * samples}, got {draws}")
    steps = draws // (prompts * samples)
    generators = [torch.Generator().manual_seed(seeding.derive(seed, "rloo", index)) for index in range(toys)]
    logits = toy.reference.clone()
    for step in range(steps):
        policy = logits.log_softmax(-1)
        uniform = torch.stack([torch.rand(prompts, samples, generator=g, dtype=torch.float64) for g in generators])
        drawn = torch.searchsorted(policy.exp().cumsum(-1), uniform).clamp(max=answers - 1)
        rewards = penalised(toy, policy).gather(-1, drawn)
        advantages = rloo_advantages(rewards.view(-1, samples)).view(drawn.shape) / samples
        # the gradient of sum(advantage * log pi) in the logits: advantage at the answer drawn, less pi times their sum
        gradient = torch.zeros_like(policy).scatter_add_(-1, drawn, advantages)
        gradient = gradient - policy.exp() * advantages.sum(-1, keepdim=True)
        logits = logits + rate * (1 - step / steps) * gradient
    return logits.log_softmax(-1)
