"""How far a running stage is: written by its worker, read by whoever shows it.

The worker replaces a small JSON file a few times a second; notebook, terminal and JupyterLab read the same file, so
progress shows wherever you are, also for stages that another notebook started.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

SECONDS_BETWEEN_WRITES = 0.2


@dataclass(frozen=True)
class Progress:
    """step of total; rate in steps a second since this start; numbers: what the build reports (loss, ...)."""

    stage: str
    seed: int
    step: int
    total: int
    rate: float
    seconds_left: float | None
    pid: int
    numbers: dict[str, float] = field(default_factory=dict)

    def line(self) -> str:
        """One line for people: `base seed 0  step 40/156  loss 0.812  11.3 steps/s  10 s left`."""
        parts = [f"{self.stage} seed {self.seed}", f"step {self.step}/{self.total}"]
        parts += [f"{name} {value:.4g}" for name, value in self.numbers.items()]
        if self.rate:
            parts.append(f"{self.rate:.3g} steps/s")
        if self.seconds_left is not None:
            parts.append(f"{self.seconds_left:.0f} s left")
        return "  ".join(parts)


class ProgressWriter:
    """Called by a build function once a step; cheap enough for thousands of steps."""

    def __init__(self, path: Path, *, stage: str, seed: int) -> None:
        self._path = path
        self._stage = stage
        self._seed = seed
        self._first: tuple[float, int] | None = None
        self._written = 0.0

    def __call__(self, step: int, total: int, **numbers: float) -> None:
        """`step` of `total` steps are done; `numbers` are shown beside (loss=..., reward=...)."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, step)
        if now - self._written < SECONDS_BETWEEN_WRITES and step < total:
            return
        self._written = now
        began, first_step = self._first
        rate = (step - first_step) / (now - began) if now > began else 0.0
        left = (total - step) / rate if rate else None
        state = Progress(self._stage, self._seed, step, total, rate, left, os.getpid(), numbers)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(asdict(state)))
        os.replace(part, self._path)


def read(path: Path) -> Progress | None:
    """The last state written to `path`; None where there is none, or its writer has died."""
    try:
        state = Progress(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if is_alive(state.pid) else None


def is_alive(pid: int) -> bool:
    """Whether a process with this number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
