"""Which drafted tokens a target accepts, and the token it adds: rules under which its distribution stays exact.

A draft of a pass is a tree whose root is the last committed token; a chain is a tree without branches. Siblings are
different tokens, and nodes come after their parents.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from zephyr_lab.core.shapes import RowIds
from zephyr_lab.decoding.sampling import draw

Nodes = Int[Tensor, "row node"]
NodeMask = Bool[Tensor, "row node"]
NodeNumbers = Float[Tensor, "row number"]  # uniforms: one a node, and one more where the target draws
NodeProbabilities = Float[Tensor, "row node entry"]
TargetLogits = Float[Tensor, "row place entry"]  # after the root, then after each node
ROOT = -1


@dataclass(frozen=True, slots=True)
class Proposal:
    """Drafted tokens of each row, and the node that each follows (`ROOT`: the last committed token).

    probabilities: the draft's distribution that each token was drawn from, where it was drawn (chains alone); None
    where the tokens are the draft's likeliest.
    """

    tokens: Nodes
    parents: Nodes
    probabilities: NodeProbabilities | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Accepted nodes, a path from the root, and the token that the target adds after the last of them."""

    accepted: NodeMask
    next_ids: RowIds


def greedy(proposal: Proposal, logits: TargetLogits) -> Verdict:
    """Accept the longest path that equals the target's likeliest tokens; add the likeliest after it."""
    likeliest = logits.argmax(dim=-1)
    wanted = likeliest.gather(1, proposal.parents + 1)
    matches = proposal.tokens == wanted
    accepted = torch.zeros_like(matches)
    reached = torch.ones_like(matches[:, :1])  # the root, then the nodes so far
    for node in range(matches.shape[1]):
        accepted[:, node] = matches[:, node] & reached.gather(1, proposal.parents[:, node, None] + 1).squeeze(1)
        reached = torch.cat([reached, accepted[:, node, None]], dim=1)
    return Verdict(accepted, likeliest.gather(1, _last(accepted)[:, None]).squeeze(1))


def drawn_chain(proposal: Proposal, logits: TargetLogits, *, temperature: float, uniforms: NodeNumbers) -> Verdict:
    """Speculative sampling of a chain that the draft drew (Leviathan et al. 2023, arXiv 2211.17192, algorithm 1).

    A token drawn with q is accepted with probability min(1, p / q); at the first that is not, the target draws from
    max(0, p - q), normalised; after the last from p. `uniforms` in [0, 1): one a node and one for the draw.
    """
    if proposal.probabilities is None:
        raise ValueError("drawn_chain needs the draft's probabilities; use `candidates` for its likeliest tokens")
    p, q = target_probabilities(logits, temperature), proposal.probabilities.double()
    tokens, length = proposal.tokens[..., None], proposal.tokens.shape[1]
    ratios = p[:, :length].gather(2, tokens).squeeze(2) / q.gather(2, tokens).squeeze(2)
    accepted = (uniforms[:, :length].double() < ratios).long().cumprod(dim=1).bool()
    count = accepted.sum(dim=1)
    own = p.gather(1, count[:, None, None].expand(-1, 1, p.shape[2])).squeeze(1)
    place = count.clamp(max=length - 1)[:, None, None].expand(-1, 1, p.shape[2])
    left = (own - q.gather(1, place).squeeze(1)).clamp(min=0)
    # Nothing is left where p = q and rounding alone refused; then p is the distribution that remains.
    refused = (count < length) & (left.sum(dim=1) > 0)
    return Verdict(accepted, draw(torch.where(refused[:, None], left, own), uniforms[:, length]))


def candidates(proposal: Proposal, logits: TargetLogits, *, temperature: float, uniforms: NodeNumbers) -> Verdict:
    """Sampling with given candidates at each node of a tree, as the authors' code walks it (NOTES.md, section 4).

    Candidate c is accepted with probability p(c); else p(c) is set to 0, p renormalised, and the next sibling tried. If
    none is accepted the target draws from what is left. `uniforms` in [0, 1): one a node and one for the draw.
    """
    p = target_probabilities(logits, temperature)
    rows, nodes = proposal.tokens.shape
    everyone = torch.arange(rows, device=logits.device)
    here = torch.full((rows,), ROOT, device=logits.device)
    left, mass = p[:, 0].clone(), torch.ones(rows, dtype=torch.float64, device=logits.device)
    accepted = torch.zeros(rows, nodes, dtype=torch.bool, device=logits.device)
    for node in range(nodes):
        token = proposal.tokens[:, node]
        tried = proposal.parents[:, node] == here
        chance = left[everyone, token]
        taken = tried & (uniforms[:, node].double() * mass < chance)
        refused = tried & ~taken
        mass = torch.where(refused, mass - chance, mass)
        left[everyone, token] = torch.where(refused, 0.0, chance)
        accepted[:, node] = taken
        here = torch.where(taken, node, here)
        left = torch.where(taken[:, None], p[:, node + 1], left)
        mass = torch.where(taken, 1.0, mass)
    return Verdict(accepted, draw(left, uniforms[:, nodes]))


def target_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature) in float64. Raises ValueError at a temperature of 0 or less."""
    if temperature <= 0:
        raise ValueError(
            f"sampling verification needs a temperature above 0, got {temperature}; greedy takes the argmax"
        )
    return torch.softmax(logits.double() / temperature, dim=-1)


def _last(accepted: NodeMask) -> RowIds:
    """Place of the last accepted node among root and nodes: 0 where none is."""
    numbers = torch.arange(1, accepted.shape[1] + 1, device=accepted.device)
    return (accepted * numbers).amax(dim=1) if accepted.shape[1] else accepted.new_zeros(len(accepted)).long()
