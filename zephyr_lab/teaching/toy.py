"""The exact toy: prompts x answers with known rewards; RLHF's optimum is a formula, and every distance is exact.

A policy is a table of log-probabilities, one row a prompt. Equations as in Rafailov et al. 2023, arXiv 2305.18290.
Several toys, one a seed, lie along the first axis, so that all of them are computed at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from zephyr_lab.core import seeds as seeding
from zephyr_lab.core.shapes import require_same_shape
from zephyr_lab.losses.log_probs import PairLogProbs

Table = Float[Tensor, "toy prompt answer"]  # a number for each answer to each prompt: rewards, log-probabilities
PairTable = Float[Tensor, "toy prompt answer answer"]  # for each ordered pair of answers: the first one, the second one
PromptNumbers = Float[Tensor, "toy prompt"]
ToyNumbers = Float[Tensor, " toy"]
LOST, DISTANCE, REWARD, KL = "lost, %", "KL to the optimum", "reward", "KL to the reference"  # what `measured` gives


@dataclass(frozen=True)
class Toy:
    """Rewards r(x, y) and reference log-probabilities log pi_ref(y | x), shape (toy, prompt, answer); beta > 0.

    Raises ValueError for shapes that differ, a beta that is not positive, or a reference that does not sum to 1.
    """

    rewards: Table
    reference: Table
    beta: float

    def __post_init__(self) -> None:
        require_same_shape(rewards=self.rewards, reference=self.reference)
        if self.beta <= 0:
            raise ValueError(f"beta must be positive, got {self.beta}")
        if not torch.allclose(self.reference.exp().sum(-1), torch.ones((), dtype=self.reference.dtype)):
            raise ValueError("reference must hold log-probabilities: each prompt's must sum to 1 (use log_softmax)")


def draw(seeds: Sequence[int], *, prompts: int, answers: int, beta: float) -> Toy:
    """One toy a seed in float64: rewards from a standard normal, reference logits from another.

    Raises ValueError for fewer than one prompt or two answers.
    """
    if prompts < 1 or answers < 2:
        raise ValueError(f"a toy needs a prompt and two answers, got {prompts} and {answers}")
    tables = []
    for seed in seeds:  # a generator each: a toy is the same, whatever other seeds are drawn beside it
        generator = torch.Generator().manual_seed(seeding.derive(seed, "toy"))
        tables.append(torch.randn(2, prompts, answers, generator=generator, dtype=torch.float64))
    rewards, logits = torch.stack(tables, dim=1)
    return Toy(rewards, logits.log_softmax(-1), beta)


def log_partition(toy: Toy) -> PromptNumbers:
    """log Z(x), Z = sum over y of pi_ref(y | x) exp(r(x, y) / beta) (below eq. 4), shape (toy, prompt)."""
    return torch.logsumexp(toy.reference + toy.rewards / toy.beta, dim=-1)


def optimum(toy: Toy) -> Table:
    """log pi*(y | x) of the policy with the largest objective (eq. 4): pi* = pi_ref exp(r / beta) / Z."""
    return toy.reference + toy.rewards / toy.beta - log_partition(toy)[..., None]


def implicit_rewards(toy: Toy, policy: Table) -> Table:
    """beta log(pi / pi_ref): the reward that `policy` is optimal for, up to beta log Z(x) (eq. 5)."""
    return toy.beta * (policy - toy.reference)


def kl(policy: Table, other: Table) -> ToyNumbers:
    """KL(policy || other) in nats, averaged over prompts, shape (toy,). An answer of probability 0 adds nothing."""
    terms = torch.where(policy > -torch.inf, policy.exp() * (policy - other), 0.0)
    return terms.sum(-1).mean(-1)  # 1e-18 of either sign where both are equal


def expected_reward(toy: Toy, policy: Table) -> ToyNumbers:
    """Mean reward of an answer that `policy` gives, prompts equally likely, shape (toy,)."""
    return (policy.exp() * toy.rewards).sum(-1).mean(-1)


def objective(toy: Toy, policy: Table) -> ToyNumbers:
    """What RLHF maximises (eq. 3): expected reward - beta * KL(policy || reference), shape (toy,)."""
    return expected_reward(toy, policy) - toy.beta * kl(policy, toy.reference)


def lost_share(toy: Toy, policy: Table) -> ToyNumbers:
    """Part of the achievable gain in the objective that `policy` misses, shape (toy,).

    0: the optimum; 1: as good as the reference; above 1: worse than not training. The gap to the optimum is exactly
    beta * KL(policy || optimum).
    """
    best = optimum(toy)
    gap = toy.beta * kl(policy, best)
    return gap / (objective(toy, best) - objective(toy, toy.reference))


def measured(toy: Toy, policy: Table) -> dict[str, list[float]]:
    """What `policy` is worth, one number a toy: `LOST` (share of the achievable gain, in %), `DISTANCE`, `REWARD` and
    `KL`, both divergences of the policy in nats."""
    return {
        LOST: [100 * share for share in lost_share(toy, policy).tolist()],
        DISTANCE: kl(policy, optimum(toy)).tolist(),
        REWARD: expected_reward(toy, policy).tolist(),
        KL: kl(policy, toy.reference).tolist(),
    }


def preference_chances(toy: Toy) -> PairTable:
    """Bradley-Terry chance that the first answer is preferred to the second (eq. 1), for every ordered pair."""
    return torch.sigmoid(toy.rewards[..., :, None] - toy.rewards[..., None, :])


def pair_shares(toy: Toy) -> PairTable:
    """Chance that two answers, drawn from the reference until they differ, are these two in this order.

    Sums to 1 over answers for each prompt.
    """
    both = toy.reference.exp()[..., :, None] * toy.reference.exp()[..., None, :]
    both = both - torch.diag_embed(both.diagonal(dim1=-2, dim2=-1))
    return both / both.sum((-2, -1), keepdim=True)


def outcome_shares(toy: Toy, *, noise: float = 0.0) -> PairTable:
    """Chance that a preference is "first answer chosen, second rejected"; sums to 1 over prompts and answers.

    `noise`: share of labels that are swapped. Raises ValueError where it is outside [0, 0.5).
    """
    if not 0 <= noise < 0.5:
        raise ValueError(f"noise must be in [0, 0.5), got {noise} (a share of swapped labels)")
    chances = preference_chances(toy)
    chances = (1 - noise) * chances + noise * (1 - chances)
    # a pair comes in either order with equal chance, and both orders are of the same two answers
    return 2 * pair_shares(toy) * chances / toy.rewards.shape[-2]


def sample_preferences(toy: Toy, count: int, *, seed: int) -> PairTable:
    """How often each outcome came among `count` preferences drawn from each toy: whole numbers as floats.

    Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    shares = outcome_shares(toy).flatten(1)
    counts = torch.zeros_like(shares)
    for index, row in enumerate(shares):  # a generator each: a toy's preferences do not depend on how many there are
        generator = torch.Generator().manual_seed(seeding.derive(seed, "preferences", index))
        drawn = torch.multinomial(row, count, replacement=True, generator=generator)
        counts[index] = torch.bincount(drawn, minlength=len(row))
    return counts.view(*toy.rewards.shape, -1)


def every_pair(policy: Table) -> PairLogProbs:
    """Log-probabilities of all ordered pairs (chosen, rejected), flat, in the order of a flattened `PairTable`."""
    shape = (*policy.shape, policy.shape[-1])
    chosen, rejected = policy[..., :, None].expand(shape), policy[..., None, :].expand(shape)
    return PairLogProbs(chosen.reshape(-1), rejected.reshape(-1))
