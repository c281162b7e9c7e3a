"""One prompt with five answers, to play with: what beta, wrong labels and the number of preferences do to DPO.

The preferences of every setting come from one fixed stream of random numbers, so that a moved slider shows its own
effect and not a fresh draw. DPO is run to its end with a penalty of 1 on rewards, which without one would have none.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from zephyr_lab.reporting import figures
from zephyr_lab.reporting.style import Picture
from zephyr_lab.teaching import toy
from zephyr_lab.teaching.few_preferences import best_for, fit_rewards
from zephyr_lab.teaching.toy import PairTable, Toy

NAMES = ("A", "B", "C", "D", "E")
REWARDS = (1.0, 0.6, 0.0, -0.5, -1.0)
REFERENCE = (0.1, 0.15, 0.4, 0.25, 0.1)
BETAS = (0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0)
NOISES = (0.0, 0.1, 0.2, 0.3, 0.4)
COUNTS = (10, 30, 100, 300, 1000, 3000)
SEED, PENALTY = 8, 1.0  # of the first twelve streams the one nearest to their median
POLICIES = ("reference", "optimum", "DPO")
_LOOKS = {"reference": ("0.75", ""), "optimum": ("black", ""), "DPO": (figures.COLOURS["ddpo"], "////")}


@dataclass(frozen=True)
class Outcome:
    """Probabilities of the five answers under `POLICIES`, and what DPO's policy is worth."""

    probabilities: dict[str, tuple[float, ...]]
    reward: float
    kl_to_optimum: float
    lost: float

    @property
    def caption(self) -> str:
        """One line: "reward 0.52, KL to the optimum 0.034 nats, 7 % of the achievable gain lost"."""
        return (
            f"reward {self.reward:.2f}, KL to the optimum {self.kl_to_optimum:.3f} nats, "
            f"{100 * self.lost:.0f} % of the achievable gain lost"
        )


def explore(beta: float, noise: float, count: int) -> Outcome:
    """What DPO learns from `count` preferences, of which the share `noise` is labelled the wrong way round.

    Raises ValueError for a beta that is not positive, a noise outside [0, 0.5), or a count from below 1 to above the
    stream's length.
    """
    given = Toy(_table(REWARDS), _table(REFERENCE).log(), beta)
    policy = best_for(given, fit_rewards(_counts(noise, count), penalty=PENALTY))
    tables = {"reference": given.reference, "optimum": toy.optimum(given), "DPO": policy}
    return Outcome(
        probabilities={name: tuple(table.exp().flatten().tolist()) for name, table in tables.items()},
        reward=float(toy.expected_reward(given, policy)),
        kl_to_optimum=float(toy.kl(policy, toy.optimum(given))),
        lost=float(toy.lost_share(given, policy)),
    )


def picture(outcome: Outcome) -> Picture:
    """Bars: the probability of each answer under reference, optimum and DPO's policy."""
    drawn, (ax,) = figures.panels(1, height=2.5, width=5.2)
    places = np.arange(len(NAMES))
    for shift, name in zip((-0.27, 0.0, 0.27), POLICIES, strict=True):
        colour, hatch = _LOOKS[name]
        ax.bar(places + shift, outcome.probabilities[name], width=0.25, color=colour, hatch=hatch, edgecolor="0.2",
               linewidth=0.5, label=name)  # fmt: skip
    ax.set_xticks(places, [f"{name}\nr = {reward:g}" for name, reward in zip(NAMES, REWARDS, strict=True)])
    ax.set_ylim(0, 1)
    ax.set_ylabel("probability")
    ax.legend(loc="upper right")
    return drawn


def _table(numbers: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64).view(1, 1, -1)


def _counts(noise: float, count: int) -> PairTable:
    """The first `count` preferences of the stream as a table of counts."""
    first, second, better, wrong = _stream()
    if not 0 <= noise < 0.5:
        raise ValueError(f"noise must be in [0, 0.5), got {noise} (a share of labels turned round)")
    if not 1 <= count <= len(first):
        raise ValueError(f"count must be from 1 to {len(first):,}, got {count}")
    rewards = np.array(REWARDS)
    first_wins = better < 1 / (1 + np.exp(rewards[second] - rewards[first]))
    said = np.where(wrong < noise, ~first_wins, first_wins)[:count]
    chosen, rejected = np.where(said, first[:count], second[:count]), np.where(said, second[:count], first[:count])
    table = np.zeros((len(NAMES), len(NAMES)))
    np.add.at(table, (chosen, rejected), 1.0)
    return torch.from_numpy(table)[None, None]


@cache
def _stream() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of different answers drawn from the reference, and the random numbers that label them."""
    generator = np.random.default_rng(SEED)
    drawn = generator.choice(len(NAMES), size=(4 * max(COUNTS), 2), p=REFERENCE)
    first, second = drawn[drawn[:, 0] != drawn[:, 1]].T
    return first, second, generator.random(len(first)), generator.random(len(first))
