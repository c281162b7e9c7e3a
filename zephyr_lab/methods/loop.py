"""The loop that plain recipes share: steps, gradient clipping, progress, checkpoints, and a halt at the first NaN.

A method gives the loss of step 0, 1, ... as a function of the step alone. So a run that was killed and resumed takes
the same steps as an unbroken one, bit for bit (same machine, one thread, float32). A checkpoint, ours or one that a
library's trainer saves in place, counts once its mark, written last, matches its files: a half-saved one is never
resumed from.
"""

import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from zephyr_lab.core import files
from zephyr_lab.methods.optimizers import Schedule

MARK = "complete.json"  # of a checkpoint whose files are whole
STATE = "state.pt"


@runtime_checkable
class Context(Protocol):
    """What a training gets from its caller: a folder for checkpoints, None for none, and what hears of each step."""

    checkpoints: Path | None

    @property
    def progress(self) -> Callable[..., None]: ...


def train(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    batch_loss: Callable[[int], Tensor],
    *,
    schedule: Schedule,
    clip: float,
    checkpoint_every: int,
    context: Context,
) -> list[float]:
    """Train `model` in place for `schedule.steps` steps and return the loss of each; resumes from a checkpoint.

    `batch_loss(step)`: scalar loss to descend. `clip`: largest gradient norm, over all parameters. The learning rates
    given to the optimizers are peaks. Raises ValueError at the first loss or gradient that is not finite.
    """
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    losses = _resume(model, optimizers, context.checkpoints)
    model.train()
    for step in range(len(losses), schedule.steps):
        share = schedule.share(step)
        for optimizer, rates in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = peak * share
        loss = batch_loss(step)
        losses.append(require_finite("loss", loss.item(), step))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
        require_finite("gradient norm", norm.item(), step)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        context.progress(step + 1, schedule.steps, loss=losses[-1])
        is_due = (step + 1) % checkpoint_every == 0 or step + 1 == schedule.steps
        if context.checkpoints is not None and is_due:
            state = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "losses": losses,
            }
            save_checkpoint(context.checkpoints, step + 1, state)
    return losses


def drawn_places(count: int, *, rounds: int, at_once: int, seed: int) -> list[list[int]]:
    """Rows of each round: all `count` in random order, then all in another, dealt out `at_once` by `at_once`."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < rounds * at_once:
        order += torch.randperm(count, generator=generator).tolist()
    return [order[place : place + at_once] for place in range(0, rounds * at_once, at_once)]


def require_finite(name: str, value: float, step: int) -> float:
    """`value`, or ValueError naming the step: training on from a NaN would fill every weight with it."""
    if not math.isfinite(value):
        raise ValueError(
            f"{name} is {value} at step {step}: training halted; a smaller learning_rate or a longer warm-up helps"
        )
    return value


def _resume(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], folder: Path | None) -> list[float]:
    """Load the newest checkpoint, if any; returns the losses of the steps already taken."""
    state = None if folder is None else load_checkpoint(folder)
    if state is None:
        return []
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["losses"]


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) as the checkpoint of `step` in `folder`, and drop all older ones."""
    target = folder / f"step-{step:08d}"
    shutil.rmtree(target, ignore_errors=True)  # left behind half-written by a killed process
    target.mkdir(parents=True)
    torch.save(state, target / STATE)
    mark_complete(target, step)
    for other in folder.glob("step-*"):
        if other != target:
            shutil.rmtree(other)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state of the newest complete checkpoint in `folder`; None where there is none."""
    newest = newest_complete(folder)
    if newest is None:
        return None
    return torch.load(newest / STATE, weights_only=True, map_location="cpu")


def mark_complete(checkpoint: Path, step: int) -> None:
    """Flush the files of `checkpoint` to disk, then write their SHA-256 beside them."""
    names = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MARK)
    for path in names:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    digests = {path.relative_to(checkpoint).as_posix(): files.sha256(path) for path in names}
    files.write_json(checkpoint / MARK, {"step": step, "files": digests})


def has_checkpoint(folder: Path) -> bool:
    """Whether a complete checkpoint lies in `folder`, or in a folder of it."""
    return next(folder.rglob(MARK), None) is not None


def newest_complete(folder: Path) -> Path | None:
    """The checkpoint folder in `folder` with the largest step whose mark matches its files; None if none does."""
    marked = [(files.read_json(mark), mark.parent) for mark in folder.glob(f"*/{MARK}")]
    for mark, checkpoint in sorted(marked, key=lambda item: item[0]["step"], reverse=True):
        paths = {checkpoint / name: digest for name, digest in mark["files"].items()}
        if all(path.is_file() and files.sha256(path) == digest for path, digest in paths.items()):
            return checkpoint
    return None


def step_of(checkpoint: Path) -> int:
    """The step of a complete checkpoint."""
    return int(files.read_json(checkpoint / MARK)["step"])
