"""Refuse files over 500 kB: figures, tables and settings are small; data and weights do not belong here.

.venv/bin/python tools/no_large_files.py FILE...        (the commit hook hands in what is staged)
"""

import sys
from collections.abc import Iterable
from pathlib import Path

LIMIT = 500_000  # bytes


def too_large(paths: Iterable[Path]) -> list[str]:
    """One line for each existing file above the limit."""
    sizes = {path: path.stat().st_size for path in paths if path.is_file()}
    return [f"{path}: {size / 1000:.0f} kB, at most {LIMIT // 1000}" for path, size in sizes.items() if size > LIMIT]


if __name__ == "__main__":
    found = too_large(map(Path, sys.argv[1:]))
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))
