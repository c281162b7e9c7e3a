"""What the commands share: options by the same name, JSON for machines, tables for people, warnings on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Profile = Annotated[str, typer.Option(help="smoke, tiny, world-gpu, gpu or paper")]
RejectedRows = Annotated[Path | None, typer.Option(help="unusable rows go here instead of build/rejected/")]
Json = Annotated[bool, typer.Option("--json", help="print JSON only, for machines")]

PIPE_WIDTH = 200  # columns of a wide table where the output is no terminal: a narrow guess would break names in two


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=1, allow_nan=False))


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A table of rows with the same columns; None is an empty cell."""
    cells = (["" if value is None else value for value in row.values()] for row in rows)
    print_table(list(rows[0]) if rows else [], cells, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    numbers: bool = False,
    width: int | None = None,
) -> None:
    """A table, as wide as the terminal unless a `width` is given. `numbers`: all columns but the first are
    right-aligned and stay whole, where long names take more lines."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    look = {"box": SIMPLE_HEAD, "padding": 0} if title else {"box": None, "pad_edge": False}
    table = Table(title=title, title_justify="left", title_style="bold", show_header=any(columns), **look)
    for number, column in enumerate(columns):
        if numbers and number:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold", min_width=10 if numbers and column else None)
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    Console(width=width, highlight=False).print(table)


def warn(line: str) -> None:
    """One line on stderr."""
    print(f"zephyr-lab: {printable(line)}", file=sys.stderr)


def printable(text: str) -> str:
    """Text of a file as a terminal may show it: on one line, without control characters."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
