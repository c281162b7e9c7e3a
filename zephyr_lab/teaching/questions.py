"""The three questions of newcomers to DPO, each as numbers that answer it exactly on the toy."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq

from zephyr_lab.core import seeds as seeding
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs, mean_log_probs
from zephyr_lab.teaching import toy
from zephyr_lab.teaching.descent import log_spaced, minimise, path
from zephyr_lab.teaching.toy import PairTable, Table, Toy, ToyNumbers

MARGINS = (-4.0, 16.0)  # nats: from a pair that is lost to one that is far apart
POINTS = 101
PairLoss = Callable[[PairLogProbs, PairLogProbs], torch.Tensor]
RATE = 16.0  # of descent on rewards, as in the toy's runs
SUM, MEAN = "sum of log-probs", "mean of log-probs"
RIGHT, TURNED, ADDED = "as it should be", "chosen and rejected swapped", "reference added, not subtracted"


def lengths(toys: Toy, *, longest: int = 8, seed: int = 0) -> torch.Tensor:
    """A length in tokens for each answer, whole numbers from 1 to `longest`, shape (toy, prompt, answer)."""
    generator = torch.Generator().manual_seed(seeding.derive(seed, "lengths"))
    return torch.randint(1, longest + 1, toys.rewards.shape, generator=generator)


def trained_on_means(toys: Toy, tokens: torch.Tensor) -> Table:
    """log-probabilities where DPO ends with all preferences known if it takes means over tokens instead of sums."""
    shares, sizes = toy.outcome_shares(toys), _pair_lengths(tokens)

    def loss(policy: Table) -> ToyNumbers:
        ours, theirs = (mean_log_probs(toy.every_pair(table), sizes) for table in (policy, toys.reference))
        return _expected(dpo_loss(ours, theirs, beta=toys.beta), shares)

    return minimise(loss, toys.reference)


def point_of_means(toys: Toy, tokens: torch.Tensor) -> Table:
    """The same point derived: log of pi_ref exp(tokens (r + c) / beta), with c(x) such that it sums to 1.

    Means make beta log(pi / pi_ref) / tokens equal to r + c, so an answer twice as long is moved twice as far.
    """

    def point(reference: np.ndarray, rewards: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        def at(constant: float) -> np.ndarray:
            return reference + tokens * (rewards + constant) / toys.beta

        def excess(constant: float) -> float:
            return float(np.exp(at(constant)).sum() - 1)

        # every term is at most pi_ref with c = -(largest r), at least with c = -(smallest r)
        return at(brentq(excess, -rewards.max(), -rewards.min(), xtol=1e-14))

    prompts = zip(*(table.flatten(0, 1).numpy() for table in (toys.reference, toys.rewards, tokens)), strict=True)
    return torch.from_numpy(np.stack([point(*prompt) for prompt in prompts])).view(toys.rewards.shape)


def sum_or_mean(toys: Toy, tokens: torch.Tensor) -> pd.DataFrame:
    """Each answer of the first prompts: its true reward, its length, and the reward read off both policies.

    Columns series (`SUM`, `MEAN`), x (reward less its mean over the prompt), y (beta log(pi / pi_ref), likewise) and
    tokens.
    """
    parts = []
    for series, policy in ((SUM, toy.optimum(toys)), (MEAN, trained_on_means(toys, tokens))):
        read = toy.implicit_rewards(toys, policy)
        tables = {"x": _centred(toys.rewards), "y": _centred(read), "tokens": tokens}
        columns = {name: table.flatten().numpy() for name, table in tables.items()}
        parts.append(pd.DataFrame({"series": series, **columns}))
    return pd.concat(parts, ignore_index=True)


def rewards_of_the_optimum(toys: Toy, betas: list[float]) -> pd.DataFrame:
    """Mean of beta log(pi* / pi_ref) over chosen and rejected answers by beta: columns series, x (beta), y.

    It is the mean reward less beta log Z, and beta log Z tends to the best reward as beta falls: then even the chosen
    answers, which are good but not the best, lose probability.
    """
    rows = []
    for beta in betas:
        priced = Toy(toys.rewards, toys.reference, beta)
        means = _mean_rewards(priced, toy.optimum(priced), toy.outcome_shares(priced))
        rows += [{"series": series, "x": beta, "y": value} for series, value in means.items()]
    return pd.DataFrame(rows)


def rewards_on_the_way(toys: Toy, *, steps: int) -> pd.DataFrame:
    """The same while DPO trains with all preferences known: columns series (chosen, rejected, margin), x (step), y."""
    shares, rows = toy.outcome_shares(toys), []

    def loss(policy: Table) -> ToyNumbers:
        return _dpo(toys, policy, toys.reference, shares)

    for step, policy in path(loss, toys.reference, rate=RATE / toys.beta**2, at=log_spaced(steps, count=30)).items():
        means = _mean_rewards(toys, policy, shares)
        means["margin"] = means["chosen"] - means["rejected"]
        rows += [{"series": series, "x": step, "y": value} for series, value in means.items()]
    return pd.DataFrame(rows)


def which_way_round(toys: Toy, *, steps: int) -> pd.DataFrame:
    """DPO as it should be and with two slips of sign: columns series, x (step), loss, objective (eq. 3)."""
    shares = toy.outcome_shares(toys)
    slips = {
        RIGHT: (toys.reference, shares),
        TURNED: (toys.reference, shares.transpose(-1, -2)),
        ADDED: (-toys.reference, shares),
    }
    rows = []
    for series, (against, labels) in slips.items():

        def loss(policy: Table, against: Table = against, labels: PairTable = labels) -> ToyNumbers:
            return _dpo(toys, policy, against, labels)

        way = path(loss, toys.reference, rate=RATE / toys.beta**2, at=log_spaced(steps, count=30))
        for step, policy in way.items():
            numbers = {"loss": loss(policy), "objective": toy.objective(toys, policy)}
            rows.append({"series": series, "x": step} | {name: float(one.mean()) for name, one in numbers.items()})
    return pd.DataFrame(rows)


def slopes(losses: Mapping[str, PairLoss]) -> pd.DataFrame:
    """-d loss / d margin over the margin h, a line a loss, each divided by its own pull at h = 0: columns series, x, y.

    losses: by name a function of (policy, reference) of which the margin h alone decides. Above 0 the pair is pulled
    further apart, below 0 together again.
    """
    grid = torch.linspace(*MARGINS, POINTS, dtype=torch.float64)
    parts = []
    for series, loss in losses.items():
        pull, at_start = _pull(loss, grid), _pull(loss, torch.zeros(1, dtype=torch.float64))
        parts.append(pd.DataFrame({"series": series, "x": grid.numpy(), "y": (pull / at_start).numpy()}))
    return pd.concat(parts, ignore_index=True)


def _mean_rewards(toys: Toy, policy: Table, shares: PairTable) -> dict[str, float]:
    """Mean implicit reward of chosen and of rejected answers, over prompts and toys."""
    read = toy.implicit_rewards(toys, policy)
    return {name: float((shares.sum(of) * read).sum((1, 2)).mean()) for name, of in (("chosen", -1), ("rejected", -2))}


def _dpo(toys: Toy, policy: Table, against: Table, shares: PairTable) -> ToyNumbers:
    return _expected(dpo_loss(toy.every_pair(policy), toy.every_pair(against), beta=toys.beta), shares)


def _expected(losses: torch.Tensor, shares: PairTable) -> ToyNumbers:
    return (losses.view(len(shares), -1) * shares.flatten(1)).sum(1)


def _pair_lengths(tokens: torch.Tensor) -> PairLengths:
    pairs: PairLogProbs = toy.every_pair(tokens.double())
    return PairLengths(pairs.chosen.long(), pairs.rejected.long())


def _centred(table: Table) -> Table:
    return table - table.mean(-1, keepdim=True)


def _pull(loss: PairLoss, margins: torch.Tensor) -> torch.Tensor:
    """-d loss / d margin, the margin given to the chosen response alone."""
    chosen = margins.clone().requires_grad_(True)
    nothing = torch.zeros_like(margins)
    losses = loss(PairLogProbs(chosen, nothing), PairLogProbs(nothing, nothing))
    return -torch.autograd.grad(losses.sum(), chosen)[0]
