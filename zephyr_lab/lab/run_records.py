"""run.json: the end-of-run record of an executed notebook, written last, and the only proof that it was done.

A killed kernel leaves a saved notebook whose metadata claims success; so nothing but this record is trusted.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths, provenance, source, symbols
from zephyr_lab.lab import notebooks
from zephyr_lab.lab.notebooks import Notebook

SCHEMA = 1
KEYS = frozenset({
    "notebook", "title", "profile", "seeds", "parameters", "code", "source", "modules", "uses", "lock", "stages",
    "inputs", "products", "seconds",
})  # fmt: skip


def record_path(profile: str, name: str) -> Path:
    return paths.build_dir(profile) / "notebooks" / f"{name}.run.json"


def executed_path(profile: str, name: str) -> Path:
    return paths.build_dir(profile) / "notebooks" / f"{name}.ipynb"


def load(profile: str, name: str) -> dict[str, Any] | None:
    """The record of the last whole run; None where there is none (or it is of another schema, or broken)."""
    path = record_path(profile, name)
    if not path.is_file():
        return None
    try:
        record = files.read_json(path)
    except ValueError:
        return None
    whole = isinstance(record, dict) and record.get("schema") == SCHEMA and set(record) >= KEYS
    return record if whole else None


def shaped_by(notebook: Notebook) -> dict[str, Any]:
    """What will shape a run that starts now: cells, the code that they lead to, the lock file."""
    uses = notebook.uses
    return {
        "code": notebook.code_digest,
        "source": source.combine(uses),
        "modules": symbols.by_module(uses),
        "uses": uses,
        "lock": provenance.lock_digest(),
    }


def compose(
    notebook: Notebook,
    parameters: Mapping[str, Any],
    shaped: Mapping[str, Any],
    events: list[dict[str, Any]],
    *,
    started: float,
    finished: float,
) -> dict[str, Any]:
    """The record of a run that ended well: what shaped it (`shaped_by` at its start) and what it made.

    Raises ValueError where the code changed meanwhile (nobody knows which one ran), or where a product named by the run
    is missing or no longer has the bytes it was written with.
    """
    profile = parameters["profile"]
    if shaped_by(notebooks.read(notebook.path)) != shaped:
        raise ValueError("code that it uses changed while it ran; run again")
    products = {event["path"]: event["sha256"] for event in events if event["event"] == "product"}
    products[f"notebooks/{notebook.name}.ipynb"] = files.sha256(executed_path(profile, notebook.name))
    for path, digest in products.items():
        target = paths.build_dir(profile) / path
        if not target.is_file() or files.sha256(target) != digest:
            raise ValueError(f"product {path} is missing or was changed while it ran; run again")
    return {
        "schema": SCHEMA,
        "notebook": notebook.name,
        "title": notebook.title,
        "profile": profile,
        "seeds": parameters["seeds"],
        "parameters": dict(parameters),
        **shaped,
        "stages": _without_event([event for event in events if event["event"] == "stage"]),
        "inputs": {event["name"]: event["sha256"] for event in events if event["event"] == "input"},
        "products": products,
        "started": round(started, 3),
        "finished": round(finished, 3),
        "seconds": round(finished - started, 3),
        "provenance": provenance.describe(),
    }


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines that the session wrote, in order; empty where the notebook registered nothing."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def products_digest(record: Mapping[str, Any]) -> str:
    """One digest of a run's products, the executed notebook (which holds timings) left out."""
    return source.combine({path: digest for path, digest in record["products"].items() if not path.endswith(".ipynb")})


def _without_event(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    unique = {event["key"]: {name: value for name, value in event.items() if name != "event"} for event in events}
    return list(unique.values())
