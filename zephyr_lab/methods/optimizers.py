"""Muon for the matrices inside the model, AdamW for embeddings and norms; and the learning rate's course.

Muon: Jordan et al. 2024. Stacks of matrices, such as the fused experts of a mixture, are refused by torch's own; here
each matrix of a stack is updated as torch.optim.Muon would update it alone (tested).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zephyr_lab.methods.recipes.training import Training

ADAM_BETAS = (0.9, 0.95)
MUON_MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # torch's: a quintic that drives singular values towards 1
NEWTON_SCHULZ_STEPS = 5
EPS = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Linear warm-up over `warmup` steps, then a half cosine down to `final` of the peak at the last of `steps`."""

    steps: int
    warmup: int
    final: float

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"warmup must be from 0 to steps - 1 = {self.steps - 1}, got {self.warmup}")
        if not 0 <= self.final <= 1:
            raise ValueError(f"final must be a share from 0 to 1, got {self.final}")

    def share(self, step: int) -> float:
        """Share of the peak learning rate that step 0, 1, ..., steps - 1 takes."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        way = (step - self.warmup) / max(self.steps - 1 - self.warmup, 1)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * way)) / 2


def muon_and_adamw(model: nn.Module, *, learning_rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices of the layers, AdamW for all else (embeddings, output head, norms).

    `learning_rate` is AdamW's for both: Muon's updates are scaled to the same root mean square. Weight decay, as in
    both papers, is decoupled; embeddings and norms get none.
    """
    embedding = {id(parameter) for parameter in model.get_input_embeddings().parameters()}
    embedding |= {id(parameter) for parameter in model.get_output_embeddings().parameters()}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim == 2 and id(parameter) not in embedding]
    inner = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in parameters if id(parameter) not in inner]
    both: list[torch.optim.Optimizer] = []
    if matrices:
        muon = torch.optim.Muon(
            matrices,
            lr=learning_rate,
            momentum=MUON_MOMENTUM,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        both.append(muon)
    if others:  # LoRA's adapters are matrices alone
        both.append(torch.optim.AdamW(others, lr=learning_rate, betas=ADAM_BETAS, weight_decay=0.0))
    return both


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


class StackMuon(torch.optim.Optimizer):
    """Muon with Nesterov momentum on parameters of shape (matrix, out, in); rates as AdamW's ("match_rms_adamw").

    A parameter group may say "pieces": matrices that lie on one another in each of the stack, along `out`, and are
    updated apart.
    """

    def __init__(self, parameters: Iterable[Any], *, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "pieces": 1})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for stack in group["params"]:
                if stack.grad is None:
                    continue
                average = self.state[stack].setdefault("momentum_buffer", torch.zeros_like(stack))
                average.lerp_(stack.grad, 1 - group["momentum"])
                matrices = stack.grad.lerp(average, group["momentum"]).unflatten(1, (group["pieces"], -1)).flatten(0, 1)
                update = orthogonalised(matrices).view(stack.shape).to(stack.dtype)
                rate = group["lr"] * 0.2 * max(matrices.shape[1:]) ** 0.5
                stack.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)
        return loss


def orthogonalised(stack: Tensor) -> Tensor:
    """Newton-Schulz steps in bfloat16, as torch takes them: each matrix towards the nearest with singular values 1."""
    a, b, c = COEFFICIENTS
    tall = stack.shape[1] > stack.shape[2]
    x = stack.bfloat16()
    x = x.transpose(1, 2) if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(1, 2) if tall else x).contiguous()


def muon_for_stacks(recipe: Training, model: nn.Module) -> torch.optim.Optimizer | None:
    """Muon, for stacks too, with AdamW where the recipe asks for Muon; None leaves the trainer to its own.

    Raises as `optimizers.muon_and_adamw`.
    """
    if recipe.optimizer != "muon":
        return None
    stacks = {
        name: weights for name, weights in model.named_parameters() if weights.requires_grad and weights.ndim == 3
    }
    parts = muon_and_adamw(model, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay)
    if stacks:
        inside = {id(stack) for stack in stacks.values()}
        for group in (group for part in parts for group in part.param_groups):
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in inside]
        # Gate and up projections are fused in a mixture and apart in a dense model, whose optimiser this one equals.
        groups = [
            {"params": [weights], "pieces": 1 + name.endswith("gate_up_proj")} for name, weights in stacks.items()
        ]
        parts.append(
            StackMuon(groups, lr=recipe.learning_rate, momentum=MUON_MOMENTUM, weight_decay=recipe.weight_decay)
        )
    return JoinedOptimizers(parts)


def muon_as_one(recipe: Training, model: nn.Module) -> torch.optim.Optimizer | None:
    """Muon with AdamW as one optimiser where the recipe asks for it; None leaves the trainer to its `optim`."""
    if recipe.optimizer != "muon":
        return None
    return JoinedOptimizers(muon_and_adamw(model, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay))
