"""Three ways down a loss of policies: to the minimum, step by step as training goes, and by the natural gradient.

A loss takes a table of log-probabilities and gives one number a toy; toys do not touch one another, so all are
descended at once. Policies are kept as logits and normalised where they are used.
"""

import math
from collections.abc import Callable, Iterable

import torch

from zephyr_lab.teaching.toy import Table, ToyNumbers

Loss = Callable[[Table], ToyNumbers]


def minimise(loss: Loss, start: Table, *, evaluations: int = 1000) -> Table:
    """log-probabilities at the minimum of a smooth loss that has one, by L-BFGS from the policy `start`."""
    logits = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [logits],
        max_iter=evaluations,
        max_eval=evaluations,
        tolerance_grad=1e-9,
        tolerance_change=1e-16,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> float:
        optimizer.zero_grad()
        total = loss(logits.log_softmax(-1)).sum()
        total.backward()
        return total.item()

    optimizer.step(evaluate)
    return logits.detach().log_softmax(-1)


def path(loss: Loss, start: Table, *, rate: float, at: Iterable[int], normalise: bool = True) -> dict[int, Table]:
    """Tables on the way of gradient descent with momentum 0.9 from `start`: step -> table, for the steps in `at`.

    `normalise`: the table is one of log-probabilities, kept as logits; False for a table of rewards. Step 0 is `start`.
    """
    wanted = sorted(set(at))
    table, velocity, kept = start.clone(), torch.zeros_like(start), {}
    for step in range(wanted[-1] + 1):
        if step in wanted:
            kept[step] = table.log_softmax(-1) if normalise else table.clone()
        leaf = table.requires_grad_(True)
        shown = leaf.log_softmax(-1) if normalise else leaf
        (gradient,) = torch.autograd.grad(loss(shown).sum(), leaf)
        velocity = 0.9 * velocity + gradient
        table = leaf.detach() - rate * velocity
    return kept


def natural_path(
    loss: Loss, start: Table, *, rate: float, at: Iterable[int], largest: float = math.inf
) -> dict[int, Table]:
    """As `path`, by the natural gradient of a softmax policy: the gradient of each logit over its probability.

    Plain policy gradient hardly moves an answer that is hardly given; this takes that factor out. `largest` bounds the
    change of a logit in one step. Prompts weigh 1 each, not 1 / prompts.
    """
    wanted = sorted(set(at))
    logits, kept = start.clone(), {}
    prompts = start.shape[-2]
    for step in range(wanted[-1] + 1):
        policy = logits.log_softmax(-1)
        if step in wanted:
            kept[step] = policy
        leaf = logits.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(leaf.log_softmax(-1)).sum(), leaf)
        change = rate * prompts * gradient / policy.exp().clamp(min=1e-300)
        logits = policy - change.clamp(-largest, largest)
    return kept


def adam_path(loss: Loss, start: Table, *, rate: float, at: Iterable[int]) -> dict[int, Table]:
    """As `path`, by Adam on the logits: every loss of the family moves at the same pace, whatever its scale."""
    wanted = sorted(set(at))
    logits, kept = start.clone().requires_grad_(True), {}
    optimizer = torch.optim.Adam([logits], lr=rate, eps=1e-30)
    for step in range(wanted[-1] + 1):
        policy = logits.log_softmax(-1)
        if step in wanted:
            kept[step] = policy.detach()
        optimizer.zero_grad()
        loss(policy).sum().backward()
        optimizer.step()
    return kept


def log_spaced(last: int, *, count: int) -> list[int]:
    """About `count` whole steps from 1 to `last`, evenly spread on a log scale, and 0 before them."""
    spread = {round(math.exp(math.log(last) * index / (count - 1))) for index in range(count)}
    return [0, *sorted(spread)]
