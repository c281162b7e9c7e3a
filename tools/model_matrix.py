"""Write benchmarks/model_matrix.json: what each fast path does on each model family and on each kind of adapter.

.venv/bin/python tools/model_matrix.py        (`make matrix` calls it; some minutes on one core)

A cell is `exact` (equal to the model's own forward pass; `error` is the largest relative one), `refused` (`reason` is
the one line that a user gets) or `absent` (`reason` says why). Fails, writing nothing, where a cell is none of these.
"""

import json
import sys
import warnings
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "benchmarks" / "model_matrix.json"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import torch  # noqa: E402
from transformers.utils import logging  # noqa: E402

import adapter_kinds  # noqa: E402
import model_families  # noqa: E402
import model_matrix as matrix  # noqa: E402


def table() -> dict[str, Any]:
    """The whole matrix, as it is written."""
    return {
        "versions": {name: version(name).partition("+")[0] for name in ("torch", "transformers", "peft")},
        "columns": list(matrix.COLUMNS),
        "families": [
            {"family": row, "class": model_families.class_name(row), "cells": _cells(row, matrix.COLUMNS, matrix.cell)}
            for row in matrix.ROWS
        ],
        "adapter_columns": list(matrix.ADAPTER_COLUMNS),
        "adapters": [
            {"adapter": kind, "cells": _cells(kind, matrix.ADAPTER_COLUMNS, matrix.adapter_cell)}
            for kind in adapter_kinds.ADAPTERS
        ],
    }


def failed(found: dict[str, Any]) -> list[str]:
    """A line for each cell that is in no allowed state."""
    return [
        f"{row.get('family', row.get('adapter'))}, {column}: {cell['reason']}"
        for row in (*found["families"], *found["adapters"])
        for column, cell in row["cells"].items()
        if cell["state"] not in (matrix.EXACT, matrix.REFUSED, matrix.ABSENT)
    ]


def main() -> None:
    """Compute the matrix and write it."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    found = table()
    if lines := failed(found):
        sys.exit("\n".join([*lines, f"{len(lines)} cells are neither exact nor refused by name; nothing is written"]))
    TABLE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {TABLE.relative_to(ROOT)}: {len(found['families'])} families, {len(found['adapters'])} adapters")


def _cells(row: str, columns: Iterable[str], cell: Any) -> dict[str, Any]:
    print(row, file=sys.stderr)
    return {column: cell(row, column).as_json() for column in columns}


if __name__ == "__main__":
    main()
