"""How a draft proposes tokens: a chain, drawn or likeliest, or a small dynamic tree; for both kinds of draft."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from zephyr_lab.core.shapes import RowIds, TokenIds
from zephyr_lab.decoding.cached_steps import CachedSteps, draft_steps
from zephyr_lab.decoding.sampling import draw
from zephyr_lab.decoding.verification import ROOT, NodeNumbers, Proposal, target_probabilities
from zephyr_lab.models.draft import FeatureDraft, Features, require_fit
from zephyr_lab.models.draft_files import Draft


@dataclass(frozen=True, slots=True)
class Start:
    """Where a draft begins: logits and feature after the last committed token, and that token's position."""

    logits: Tensor
    feature: Tensor
    place: RowIds
    temperature: float


@dataclass(frozen=True, slots=True)
class Chain:
    """`length` tokens one after another: drawn from the draft at the target's temperature, or its likeliest."""

    length: int
    drawn: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length must be at least 1, got {self.length}")

    @property
    def nodes(self) -> int:
        return self.length

    def propose(self, start: Start, steps: CachedSteps, uniforms: NodeNumbers) -> Proposal:
        """A chain of each row; `uniforms` (row, node) in [0, 1) are read where tokens are drawn."""
        logits, feature = start.logits, start.feature
        tokens, probabilities = [], []
        for place in range(self.length):
            if self.drawn:
                probabilities.append(target_probabilities(logits, start.temperature))
                tokens.append(draw(probabilities[-1], uniforms[:, place]))
            else:
                tokens.append(logits.argmax(dim=-1))
            if place < self.length - 1:
                sees = torch.ones(len(logits), 1, place + 1, dtype=torch.bool, device=logits.device)
                places = start.place[:, None] + 1 + place
                output = steps.run(tokens[-1][:, None], places, sees, features=feature[:, None])
                logits, feature = output.last_logits, output.features[:, 0]
        parents = torch.arange(-1, self.length - 1, device=logits.device).expand(len(logits), -1)
        drawn_from = torch.stack(probabilities, dim=1) if self.drawn else None
        return Proposal(torch.stack(tokens, dim=1), parents.contiguous(), drawn_from)


@dataclass(frozen=True, slots=True)
class Tree:
    """A dynamic tree of likeliest tokens (EAGLE-2, Li et al. 2024, arXiv 2406.16858): `depth` levels, `size` nodes.

    The first level holds the `top` likeliest tokens; of each later level the `top` nodes with the largest product of
    probabilities grow `top` children each. Of all nodes the `size` with the largest products are kept.
    """

    top: int
    depth: int
    size: int

    def __post_init__(self) -> None:
        if min(self.top, self.depth, self.size) < 1:
            raise ValueError(f"top, depth and size must be at least 1, got {self.top}, {self.depth}, {self.size}")
        most = self.top + (self.depth - 1) * self.top**2
        if self.size > most:
            raise ValueError(f"a tree of top {self.top} and depth {self.depth} has {most} nodes, size is {self.size}")

    @property
    def nodes(self) -> int:
        return self.size

    @property
    def drawn(self) -> bool:
        return False

    def propose(self, start: Start, steps: CachedSteps, uniforms: NodeNumbers) -> Proposal:
        """A tree of each row; nothing is drawn, so `uniforms` are not read."""
        rows, device = len(start.logits), start.logits.device
        scores, tokens = start.logits.log_softmax(dim=-1).topk(self.top, dim=-1)
        parents = torch.full_like(tokens, ROOT)
        levels = [(tokens, parents, scores)]
        front = torch.arange(self.top, device=device).expand(rows, -1)  # numbers of the nodes that grow, among all
        features = start.feature[:, None].expand(-1, self.top, -1)
        ancestors = torch.zeros(rows, self.top, 0, dtype=torch.bool, device=device)  # (row, front, open column)
        own = torch.eye(self.top, dtype=torch.bool, device=device).expand(rows, -1, -1)
        numbered = self.top
        for level in range(1, self.depth):
            sees = torch.cat([ancestors, own], dim=2)
            places = (start.place + level)[:, None].expand(-1, self.top)
            output = steps.run(tokens, places, sees, features=features)
            likely = output.logits.log_softmax(dim=-1).topk(self.top, dim=-1)
            grown = (scores[..., None] + likely.values).flatten(1)
            below = front.repeat_interleave(self.top, dim=1)
            levels.append((likely.indices.flatten(1), below, grown))
            if level < self.depth - 1:
                scores, best = grown.topk(self.top, dim=-1)
                tokens = likely.indices.flatten(1).gather(1, best)
                front, place = numbered + best, best // self.top
                features, ancestors = _rows_of(output.features, place), _rows_of(sees, place)
            numbered += self.top**2
        return self._best(*(torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)))

    def _best(self, tokens: Tensor, parents: Tensor, scores: Tensor) -> Proposal:
        """The `size` best nodes in their order, parents renumbered: a parent scores no less and comes first."""
        chosen = scores.sort(dim=1, descending=True, stable=True).indices[:, : self.size].sort(dim=1).values
        renumbered = torch.full_like(tokens, ROOT)
        renumbered.scatter_(1, chosen, torch.arange(self.size, device=tokens.device).expand(len(tokens), -1))
        kept = parents.gather(1, chosen)
        new = torch.where(kept == ROOT, ROOT, renumbered.gather(1, kept.clamp(min=0)))
        return Proposal(tokens.gather(1, chosen), new)


Plan = Chain | Tree  # how many tokens a pass verifies at most, and how they are found


class Drafter:
    """A draft beside a target on the rows of a batch: it reads what is committed, then proposes."""

    def __init__(self, draft: Draft, plan: Plan, target: PreTrainedModel, rows: int) -> None:
        self._plan = plan
        self._first = 1 if isinstance(draft, FeatureDraft) else 0  # before the token at place 0 there is no feature
        self._steps = draft_steps(draft, target, rows)

    def propose(
        self, ids: TokenIds, places: TokenIds, features: Features, *, temperature: float, uniforms: NodeNumbers
    ) -> Proposal:
        """Drafts after the tokens committed since the last call, which end at the last column.

        `features`: the target's feature before each token; places -1: padding.
        """
        valid = places >= self._first
        places = places.masked_fill(~valid, -1)
        output = self._steps.run(ids, places, features=features)
        self._steps.keep(valid)
        start = Start(output.last_logits, output.features[:, -1], places[:, -1], temperature)
        proposal = self._plan.propose(start, self._steps, uniforms)
        self._steps.drop()
        return proposal

    def select(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        self._steps.select(rows)


def require_pair(draft: Draft, target: PreTrainedModel) -> None:
    """Raises ValueError unless the two share a vocabulary (and, for a feature draft, a width)."""
    if isinstance(draft, FeatureDraft):
        require_fit(draft, target)
        return
    entries = [model.get_input_embeddings().weight.shape[0] for model in (draft, target)]
    if entries[0] != entries[1]:
        raise ValueError(
            f"draft and target have different vocabularies: {entries[0]} and {entries[1]} entries; "
            "train a draft for this target"
        )


def _rows_of(tensor: Tensor, places: Tensor) -> Tensor:
    """Entries `places` (row, k) of (row, front, size) along the second axis."""
    return tensor.gather(1, places[..., None].expand(-1, -1, tensor.shape[2]))
