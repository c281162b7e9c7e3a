"""Refuse files over 500 kB: figures, tables and settings are small; data and weights do not belong here.

The provenance of the committed figures names every stage behind them, and may have four times as much.

.venv/bin/python tools/no_large_files.py FILE...        (the commit hook hands in what is staged)
"""

import sys
from collections.abc import Iterable
from pathlib import Path

LIMIT = 500_000  # bytes
OWN_LIMITS = {"figures/provenance.json": 2_000_000}


def too_large(paths: Iterable[Path]) -> list[str]:
    """One line for each existing file above the limit."""
    lines = []
    for path in filter(Path.is_file, paths):
        size, limit = path.stat().st_size, _limit(path)
        if size > limit:
            lines.append(f"{path}: {size / 1000:.0f} kB, at most {limit // 1000}")
    return lines


def _limit(path: Path) -> int:
    return next((limit for name, limit in OWN_LIMITS.items() if path.as_posix().endswith(name)), LIMIT)


if __name__ == "__main__":
    found = too_large(map(Path, sys.argv[1:]))
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))
