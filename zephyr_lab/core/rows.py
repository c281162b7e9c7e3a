"""Rows of a user's file, the bad ones counted and never a traceback.

JSON lines, JSON lists and parquet, the first two also gzipped. A row is an object of named columns; what
cannot be one (a broken line, wrong bytes, a number that is no number) comes back as a `BadRow` that says
where and why, and every other row stays. Which columns a row needs is the caller's business:
`zephyr_lab.core.columns` checks them.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from zephyr_lab.core.files import write_text
from zephyr_lab.core.paths import project_root
from zephyr_lab.core.row_formats import json_lines, json_list, parquet
from zephyr_lab.core.row_types import BadRow, Row, Rows

KINDS = ".jsonl, .json (a list of objects), .parquet, the first two also with .gz"


def read_rows(path: Path) -> Rows:
    """All rows of `path`; see `iter_rows` for what is raised."""
    rows = Rows([], [])
    for row in iter_rows(path):
        (rows.good if isinstance(row, Row) else rows.bad).append(row)
    return rows


def iter_rows(path: Path) -> Iterator[Row | BadRow]:
    """The rows of `path` in order; JSON lines and parquet are streamed, a JSON list is held whole.

    Raises FileNotFoundError (no such file) and ValueError (a folder, another kind of file, empty, UTF-16, or a
    parquet file that is none), one plain line each, before the first row.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; give one file ({KINDS})")
    readers = {".jsonl": json_lines, ".json": json_list, ".parquet": parquet}
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind not in readers:
        raise ValueError(f"{path.name!r} is no known kind of file; allowed: {KINDS}")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path.name!r} is empty")
    return _at_least_one(readers[kind](path), path.name)


def _at_least_one(rows: Iterator[Row | BadRow], name: str) -> Iterator[Row | BadRow]:
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{name!r} holds no rows")
    yield first
    yield from rows


def write_rejected(bad: list[BadRow], path: Path) -> None:
    """Write bad rows as JSON lines of row, column, problem and raw (and file, where several were read).

    Raises OSError (no space, no permission) with nothing half-written.
    """
    text = "".join(_as_line(row) + "\n" for row in bad)
    if path.exists() and not path.is_file() and not path.is_dir():
        # A device or a pipe takes text, but must not be replaced by a file.
        with path.open("w", encoding="utf-8") as stream:
            stream.write(text)
        return
    write_text(path, text)


def default_rejected_path(source: Path, command: str) -> Path:
    """`build/rejected/<command>/<name of source>.jsonl` of the checkout, or of the working folder without one."""
    try:
        root = project_root()
    except FileNotFoundError:
        root = Path.cwd()
    name = Path(os.path.abspath(source)).name or "rows"
    return root / "build" / "rejected" / command / f"{name.removesuffix('.gz').removesuffix('.jsonl')}.jsonl"


def _as_line(row: BadRow) -> str:
    fields = {"row": row.row, "column": row.column, "problem": row.problem, "raw": row.raw}
    # ASCII only, so that a lone surrogate in a broken text can still be written.
    return json.dumps(fields | ({"file": row.file} if row.file else {}))
