"""Checkpoints that survive a kill at any moment: a folder counts once its mark, written last, matches its files.

Serves our own loops and folders that a library's trainer saves in place, where a half-saved checkpoint would
otherwise be resumed from without a word.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from zephyr_lab.core import files

MARK = "complete.json"
STATE = "state.pt"


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) as the checkpoint of `step` in `folder`, and drop all older ones."""
    target = folder / f"step-{step:08d}"
    shutil.rmtree(target, ignore_errors=True)  # left behind half-written by a killed process
    target.mkdir(parents=True)
    torch.save(state, target / STATE)
    mark_complete(target, step)
    for other in folder.glob("step-*"):
        if other != target:
            shutil.rmtree(other)


def load_newest(folder: Path) -> dict[str, Any] | None:
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


def has_any(folder: Path) -> bool:
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
