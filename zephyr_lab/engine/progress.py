"""How far a running stage is: written by its worker, shown in a terminal, a JupyterLab cell or a log.

The worker replaces a small JSON file a few times a second. Everybody reads the same file, so progress shows wherever
you are, also for stages that another notebook started. A training that is called without a stage shows a bar (`bar`).
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

SECONDS_BETWEEN_WRITES = 0.2
SECONDS_BETWEEN_FRAMES = 0.25
SECONDS_BETWEEN_LOG_LINES = 15.0


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


def bar(name: str) -> Callable[..., None]:
    """A listener that shows steps, loss, rate and the time left, in a terminal or a notebook.

    The rate is that of the steps after the first report: those before a resumed run began took none of its time.
    """
    from tqdm.auto import tqdm

    shown: list[tqdm] = []

    def progress(step: int, of: int, **numbers: float) -> None:
        if not shown:
            shown.append(tqdm(total=of, initial=step, desc=name, unit="step"))
        shown[0].set_postfix({key: f"{value:.4g}" for key, value in numbers.items()}, refresh=False)
        shown[0].update(step - shown[0].n)
        if step >= of:
            shown[0].close()

    return progress


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
    except OSError as error:
        return isinstance(error, PermissionError)  # of another user
    return True


class View:
    """Progress for people. This one prints the summary alone: for executed notebooks, where a live display would leave
    a frozen frame."""

    seconds_between_frames = SECONDS_BETWEEN_FRAMES

    def __init__(self) -> None:
        self._shown = 0.0

    def show(self, lines: list[str]) -> None:
        """May be called many times a second."""
        if time.monotonic() - self._shown >= self.seconds_between_frames:
            self._shown = time.monotonic()
            self._draw(lines)

    def close(self, summary: str) -> None:
        """End the display, with a line unless it is empty."""
        if summary:
            print(summary)

    def _draw(self, lines: list[str]) -> None:
        pass


class LogView(View):
    """The lines, every quarter of a minute, to standard error: for files and pipes."""

    seconds_between_frames = SECONDS_BETWEEN_LOG_LINES

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def close(self, summary: str) -> None:
        if summary:
            print(summary, file=sys.stderr, flush=True)

    def _draw(self, lines: list[str]) -> None:
        print(" | ".join(lines), file=sys.stderr, flush=True)


class TerminalView(View):
    """A block of lines that is redrawn in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._live.start()

    def close(self, summary: str) -> None:
        self._live.stop()
        if summary:
            self._console.print(summary, highlight=False)

    def _draw(self, lines: list[str]) -> None:
        from rich.text import Text

        self._live.update(Text("\n".join(lines)), refresh=True)


class CellView(View):
    """A cell output that is updated in place and ends as the summary."""

    def __init__(self) -> None:
        from IPython.display import Pretty, display

        super().__init__()
        self._handle = display(Pretty("starting"), display_id=True)

    def close(self, summary: str) -> None:
        self._draw([summary])

    def _draw(self, lines: list[str]) -> None:
        from IPython.display import Pretty

        self._handle.update(Pretty("\n".join(lines)))


def view_for_here() -> View:
    """The view that fits this process. Under the runner, which shows progress itself, it is the silent one."""
    if os.environ.get("ZEPHYR_LAB_RECORD"):
        return View()
    if _in_jupyter():
        return CellView()
    return TerminalView() if sys.stderr.isatty() else LogView()


def _in_jupyter() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return hasattr(get_ipython(), "kernel")
