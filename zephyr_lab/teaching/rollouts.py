"""Policy gradient on the toy: RLOO and PPO with every draw counted, and RLOO from samples, by the library's losses."""

from collections.abc import Callable

import torch
from torch import Tensor

from zephyr_lab.core import seeds as seeding
from zephyr_lab.losses.policy_gradient import kl_penalised_rewards, reinforce_loss, rloo_advantages
from zephyr_lab.losses.ppo import clipped_surrogate_loss
from zephyr_lab.teaching.toy import Table, Toy, ToyNumbers


def penalised(toy: Toy, policy: Table) -> Table:
    """r - beta log(pi / pi_ref) of every answer: what policy gradient takes for reward (below eq. 3)."""
    flat = (table.detach().flatten() for table in (toy.rewards, policy, toy.reference))
    return kl_penalised_rewards(*flat, beta=toy.beta).view(policy.shape)


def rloo_over_all_draws(toy: Toy, policy: Table) -> ToyNumbers:
    """RLOO's surrogate loss in expectation over all groups of two draws, shape (toy,): its gradient is exact."""
    answers = policy.shape[-1]
    square = (*policy.shape, answers)

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
    from a generator of its own. Raises ValueError for fewer than two samples a prompt, and for draws that are no whole
    number of steps.
    """
    toys, prompts, answers = toy.rewards.shape
    if draws % (prompts * samples):
        raise ValueError(f"draws must be a whole multiple of prompts x samples = {prompts * samples}, got {draws}")
    steps = draws // (prompts * samples)
    generators = [torch.Generator().manual_seed(seeding.derive(seed, "rloo", place)) for place in range(toys)]
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
