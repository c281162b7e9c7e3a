"""Muon for the matrices inside the model, AdamW for embeddings and norms; and the learning rate's course."""

import math
from dataclasses import dataclass

import torch
from torch import nn

ADAM_BETAS = (0.9, 0.95)
MUON_MOMENTUM = 0.95


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
