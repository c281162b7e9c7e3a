"""Several optimisers that a trainer may treat as one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


class JoinedOptimizers(torch.optim.Optimizer):
    """Steps each of `parts` in turn; their parameter groups, side by side, are its own.

    Learning rates set on the groups reach the parts. The state is the list of the parts' states.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], defaults={})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        # Loading gave each part new groups.
        self.param_groups = [group for part in self.parts for group in part.param_groups]
