"""Few preferences: overfitting, a penalty on rewards, and early stopping, each by itself.

DPO and a reward model with the closed-form optimum are one thing here: with r = beta log(pi / pi_ref) both losses are
equal, so a rate of beta^2 times DPO's keeps them together at every step.
"""

from collections.abc import Callable

import torch

from zephyr_lab.teaching import methods
from zephyr_lab.teaching.descent import adam_path, log_spaced, path
from zephyr_lab.teaching.toy import PairTable, Table, Toy, ToyNumbers, sample_preferences

STOPS = 20  # steps at which a training may be stopped early


def split_preferences(toy: Toy, count: int, *, held_out: float, seed: int) -> tuple[PairTable, PairTable]:
    """`count` preferences of each toy as counts: those to train on, and the share `held_out` of them to choose by.

    Raises ValueError where one part would be empty.
    """
    kept = round(count * held_out)
    if not 0 < kept < count:
        raise ValueError(f"{count} preferences with a share of {held_out} held out leave one part empty")
    return sample_preferences(toy, count - kept, seed=seed), sample_preferences(toy, kept, seed=seed + 1_000_003)


def shares(counts: PairTable) -> PairTable:
    """Counts over their sum, a toy at a time."""
    return counts / counts.sum((-3, -2, -1), keepdim=True)


def dpo_path(toy: Toy, counts: PairTable, *, rate: float, at: list[int]) -> dict[int, Table]:
    """Policies on DPO's way from the reference, by gradient descent on `counts`."""
    return path(lambda policy: preference_loss(toy, policy, counts), toy.reference, rate=rate, at=at)


def reward_path(toy: Toy, counts: PairTable, *, rate: float, at: list[int]) -> dict[int, Table]:
    """Optimal policies (eq. 4) of the reward model on its way from 0, at the rate that DPO's `rate` stands for."""

    def loss(rewards: Table) -> ToyNumbers:
        return methods.reward_model(rewards, shares(counts))

    rewards = path(loss, torch.zeros_like(toy.rewards), rate=rate * toy.beta**2, at=at, normalise=False)
    return {step: best_for(toy, table) for step, table in rewards.items()}


def best_for(toy: Toy, rewards: Table) -> Table:
    """log of pi_ref exp(rewards / beta) / Z: the optimum if `rewards` were the true ones (eq. 4)."""
    return (toy.reference + rewards / toy.beta).log_softmax(-1)


def fit_rewards(counts: PairTable, *, penalty: float, steps: int = 100) -> Table:
    """Rewards that minimise -log likelihood of the counted preferences + penalty / 2 * sum of r^2, by Newton's method.

    The penalty is that of a normal prior with variance 1 / penalty. Raises ValueError for a penalty that is not
    positive: without one the likelihood of few preferences has no maximum.
    """
    if penalty <= 0:
        raise ValueError(f"penalty must be positive, got {penalty}: few preferences have no maximum without one")
    compared = counts + counts.transpose(-1, -2)
    rewards = counts.new_zeros(counts.shape[:-1])
    ridge = penalty * torch.eye(counts.shape[-1], dtype=counts.dtype)
    for _ in range(steps):
        chances = torch.sigmoid(rewards[..., :, None] - rewards[..., None, :])
        gradient = (compared * chances - counts).sum(-1) + penalty * rewards
        weights = compared * chances * (1 - chances)
        hessian = torch.diag_embed(weights.sum(-1)) - weights + ridge
        change = torch.linalg.solve(hessian, gradient)
        rewards = rewards - change * (1 / change.abs().amax(-1, keepdim=True).clamp(min=1.0))
        if change.abs().max() < 1e-13:
            break
    return rewards


def preference_loss(toy: Toy, policy: Table, counts: PairTable) -> ToyNumbers:
    """Mean DPO loss of the counted preferences, in nats, shape (toy,)."""
    return methods.dpo(toy, policy, shares(counts))


def chosen_by(toy: Toy, policies: list[Table], held_out: PairTable) -> Table:
    """For each toy, the policy with the smallest DPO loss on the counted preferences `held_out`."""
    return best_by(torch.stack([preference_loss(toy, policy, held_out) for policy in policies]), policies)[0]


def best_by(losses: torch.Tensor, policies: list[Table]) -> tuple[Table, torch.Tensor]:
    """For each toy, the policy with the smallest of `losses`, shape (choice, toy), and which one that was."""
    choice = losses.argmin(0)
    stacked = torch.stack(policies)
    return stacked[choice, torch.arange(stacked.shape[1])], choice


def stopped_early(
    loss: Callable[[Table, PairTable], ToyNumbers],
    start: Table,
    train: PairTable,
    held_out: PairTable,
    *,
    steps: int,
    rate: float,
) -> Table:
    """Each toy's policy at the step where its loss on the shares `held_out` is smallest, by Adam on those of `train`.

    loss: a method's own, of a policy and of shares of preferences, shape (toy,).
    """
    way = adam_path(lambda policy: loss(policy, train), start, rate=rate, at=log_spaced(steps, count=STOPS))
    losses = torch.stack([loss(policy, held_out).detach() for policy in way.values()])
    return best_by(losses, list(way.values()))[0]
