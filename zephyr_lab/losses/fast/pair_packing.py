"""Preference pairs as one row of tokens without padding: [prompt | chosen | rejected] of each, one after the other.

The prompt is there once. Positions of the rejected response restart after the prompt, as those of the chosen do.
`shared_prompt_attention` says which token may look at which.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from zephyr_lab.core.shapes import TokenIds
from zephyr_lab.losses.fast.supported import SLOW_PATH
from zephyr_lab.losses.log_probs import PairLengths

Targets = Int[Tensor, " target"]
Places = Int[Tensor, " place"]  # of tokens in the packed row, or in a part of it


@dataclass(frozen=True, slots=True)
class PairShape:
    """Tokens of one pair's prompt and of its two responses. Raises ValueError where one of them has none."""

    prompt: int
    chosen: int
    rejected: int

    def __post_init__(self) -> None:
        for name in ("prompt", "chosen", "rejected"):
            if getattr(self, name) < 1:
                raise ValueError(f"a pair's {name} has no tokens; prompt, chosen and rejected need one each")

    @property
    def tokens(self) -> int:
        return self.prompt + self.chosen + self.rejected

    @property
    def responses(self) -> int:
        return self.chosen + self.rejected


@dataclass(frozen=True, slots=True)
class PackedPairs:
    """Pairs in one row: `ids` and `positions` of shape (1, token), `shapes` in the row's order."""

    ids: TokenIds
    positions: TokenIds
    shapes: tuple[PairShape, ...]

    def to(self, device: torch.device) -> "PackedPairs":
        """The same pairs on `device`."""
        return PackedPairs(self.ids.to(device), self.positions.to(device), self.shapes)

    @property
    def lengths(self) -> PairLengths:
        """Tokens of both responses of each pair, shape (pair,) each."""
        chosen = [shape.chosen for shape in self.shapes]
        return PairLengths(*torch.tensor([chosen, [shape.rejected for shape in self.shapes]], device=self.ids.device))

    def targets(self) -> Targets:
        """The responses' tokens, chosen before rejected, pair by pair: what the output head is asked for."""
        rows = self.ids[0].split([shape.tokens for shape in self.shapes])
        return torch.cat([row[shape.prompt :] for row, shape in zip(rows, self.shapes, strict=True)])

    def of_chosen(self) -> Bool[Tensor, " target"]:
        """Which targets are the chosen response's."""
        sides = torch.tensor([True, False] * len(self.shapes), device=self.ids.device)
        return sides.repeat_interleave(torch.stack([self.lengths.chosen, self.lengths.rejected], dim=1).flatten())

    def selected(self) -> Places:
        """Tokens that feed the output head, ascending: the last of each prompt, and each response but its last one."""
        places: list[int] = []
        start = 0
        for shape in self.shapes:
            rejected = start + shape.prompt + shape.chosen
            places += [*range(start + shape.prompt - 1, rejected - 1), *range(rejected, start + shape.tokens - 1)]
            start += shape.tokens
        return torch.tensor(places, device=self.ids.device)

    def before_targets(self) -> Places:
        """Which of the `selected` tokens comes before each target; the last of a prompt does so twice."""
        places: list[int] = []
        start = 0
        for shape in self.shapes:
            rejected = start + shape.chosen
            places += [*range(start, rejected), start, *range(rejected, rejected + shape.rejected - 1)]
            start = rejected + shape.rejected - 1
        return torch.tensor(places, device=self.ids.device)


def pack(pairs: Iterable[tuple[Sequence[int], Sequence[int], Sequence[int]]]) -> PackedPairs:
    """(prompt ids, chosen ids, rejected ids) of each pair in one row on the CPU; an end token is part of a response.

    Raises ValueError where a pair lacks a prompt or a response, or there is no pair.
    """
    ids: list[int] = []
    positions: list[int] = []
    shapes = []
    for prompt, chosen, rejected in pairs:
        shape = PairShape(len(prompt), len(chosen), len(rejected))
        ids += [*prompt, *chosen, *rejected]
        positions += [*range(shape.prompt + shape.chosen), *range(shape.prompt, shape.prompt + shape.rejected)]
        shapes.append(shape)
    if not shapes:
        raise ValueError("there are no pairs to pack")
    return PackedPairs(torch.tensor([ids]), torch.tensor([positions]), tuple(shapes))


def from_padded(ids: TokenIds, attention_mask: TokenIds, completion_mask: TokenIds) -> PackedPairs:
    """A batch as TRL's DataCollatorForPreference makes it, chosen rows above rejected rows, as one row without padding.

    `attention_mask` is 1 on tokens, `completion_mask` on those of responses. The row is on the device of `ids`. Raises
    ValueError where the two rows of a pair have different prompts, as after truncation from the left.
    """
    rows = [row[kept] for row, kept in zip(ids, attention_mask.bool(), strict=True)]
    prompts = (attention_mask.sum(dim=1) - completion_mask.sum(dim=1)).tolist()
    half = len(rows) // 2
    parts, positions, shapes = [], [], []
    for chosen, rejected, prompt, other in zip(rows[:half], rows[half:], prompts[:half], prompts[half:], strict=True):
        if prompt != other or not torch.equal(chosen[:prompt], rejected[:prompt]):
            raise ValueError(
                "the chosen and the rejected row of a pair have different prompts, so none can be shared: cut rows at "
                f"their end (truncation_mode='keep_start'), or {SLOW_PATH}"
            )
        shape = PairShape(prompt, len(chosen) - prompt, len(rejected) - prompt)
        parts += [chosen, rejected[prompt:]]
        positions += [torch.arange(len(chosen)), torch.arange(prompt, len(rejected))]
        shapes.append(shape)
    return PackedPairs(torch.cat(parts)[None], torch.cat(positions)[None].to(ids.device), tuple(shapes))
