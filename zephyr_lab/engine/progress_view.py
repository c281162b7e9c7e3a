"""Live progress where the user is: a terminal, a JupyterLab cell, or plain lines in a log."""

import os
import sys
import time
from typing import Protocol, runtime_checkable

SECONDS_BETWEEN_FRAMES = 0.25
SECONDS_BETWEEN_LOG_LINES = 15.0


@runtime_checkable
@runtime_checkable
class View(Protocol):
    """show(lines) may be called many times a second; close ends the display, with a line unless it is empty."""

    def show(self, lines: list[str]) -> None: ...

    def close(self, summary: str) -> None: ...


def view_for_here() -> View:
    """The view that fits this process: silent but for the summary under the runner, which shows progress itself."""
    if os.environ.get("ZEPHYR_LAB_RECORD"):
        return SummaryView()
    if _in_jupyter():
        return CellView()
    return TerminalView() if sys.stderr.isatty() else LogView()


def _in_jupyter() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class SummaryView:
    """One line at the end: for executed notebooks, where a live display would leave a frozen frame."""

    def show(self, lines: list[str]) -> None:
        del lines

    def close(self, summary: str) -> None:
        if summary:
            print(summary)


class LogView:
    """The lines, every quarter of a minute, to standard error: for files and pipes."""

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def show(self, lines: list[str]) -> None:
        if time.monotonic() - self._shown >= SECONDS_BETWEEN_LOG_LINES:
            self._shown = time.monotonic()
            print(" | ".join(lines), file=sys.stderr, flush=True)

    def close(self, summary: str) -> None:
        if summary:
            print(summary, file=sys.stderr, flush=True)


class TerminalView:
    """A block of lines that is redrawn in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._live.start()
        self._shown = 0.0

    def show(self, lines: list[str]) -> None:
        if time.monotonic() - self._shown >= SECONDS_BETWEEN_FRAMES:
            from rich.text import Text

            self._shown = time.monotonic()
            self._live.update(Text("\n".join(lines)), refresh=True)

    def close(self, summary: str) -> None:
        self._live.stop()
        if summary:
            self._console.print(summary, highlight=False)


class CellView:
    """A cell output that is updated in place and ends as the summary."""

    def __init__(self) -> None:
        from IPython.display import Pretty, display

        self._pretty = Pretty
        self._handle = display(Pretty("starting"), display_id=True)
        self._shown = 0.0

    def show(self, lines: list[str]) -> None:
        if time.monotonic() - self._shown >= SECONDS_BETWEEN_FRAMES:
            self._shown = time.monotonic()
            self._handle.update(self._pretty("\n".join(lines)))

    def close(self, summary: str) -> None:
        self._handle.update(self._pretty(summary))
