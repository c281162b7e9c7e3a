"""Muon for stacks of matrices, such as the fused expert weights of a mixture, which torch's own refuses.

Jordan et al. 2024. Each matrix of a stack is updated as torch.optim.Muon would update it alone (tested).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from zephyr_lab.methods.joined_optimizers import JoinedOptimizers
from zephyr_lab.methods.optimizers import MUON_MOMENTUM, muon_and_adamw
from zephyr_lab.methods.recipes.training import Training

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # torch's: a quintic that drives singular values towards 1
NEWTON_SCHULZ_STEPS = 5
EPS = 1e-7


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


def optimizer(recipe: Training, model: nn.Module) -> torch.optim.Optimizer | None:
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
