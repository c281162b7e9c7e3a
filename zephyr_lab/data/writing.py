"""Writing rows to a file of the kind its name ends in; whole or not at all."""

import gzip
import json
from collections.abc import Iterable
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import Any

from zephyr_lab.core import files

KINDS = ".jsonl, .jsonl.gz or .parquet"
Rows = Iterable[dict[str, Any]]


def require_kind(path: Path) -> None:
    """Raises ValueError, before any work is done, for a name that says no known kind, or a folder."""
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; give the name of a file")
    if not path.name.lower().endswith((".jsonl", ".jsonl.gz", ".parquet")) and not _is_device(path):
        raise ValueError(f"cannot write {path.name!r}; allowed: {KINDS}")


def write_rows(path: Path, rows: Rows) -> int:
    """Write `rows` as they come (a .parquet file takes them all into memory) and say how many there were.

    A reader, a crash or a full disk never sees half of the file. Same rows, same bytes. Raises ValueError for another
    kind of file or columns that no parquet table holds, OSError where the disk fails; the old file then stays.
    """
    require_kind(path)
    if _is_device(path):  # a pipe or a terminal takes text, but must not be replaced by a file
        with path.open("wb") as stream:
            return _json_lines(stream, rows)
    with files.replacing(path) as stream:
        if path.name.lower().endswith(".parquet"):
            return _parquet(stream, rows)
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as packed:
                return _json_lines(packed, rows)
        return _json_lines(stream, rows)


def _json_lines(stream: BufferedIOBase, rows: Rows) -> int:
    count = 0
    for row in rows:
        # Tables may hold dates and bytes, which JSON has no word for.
        stream.write(json.dumps(row, ensure_ascii=False, default=str).encode("utf-8") + b"\n")
        count += 1
    return count


def _parquet(stream: BufferedIOBase, rows: Rows) -> int:
    import pyarrow
    from pyarrow.parquet import write_table

    listed = list(rows)
    names = list(dict.fromkeys(chain.from_iterable(listed)))
    try:
        table = pyarrow.table({name: [row.get(name) for row in listed] for name in names})
        write_table(table, stream)
    except pyarrow.ArrowException as error:
        raise ValueError(f"these rows make no parquet table ({' '.join(str(error).split())}); use .jsonl") from error
    return len(listed)


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()
