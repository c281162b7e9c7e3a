"""The notebook run that library calls belong to: its profile, its seeds, and what it read and wrote.

A notebook says `session.begin(profile, seeds, notebook=...)` once; `figures.save`, `tables.save` and
`check.*` then know where their products belong. The runner names a file in `ZEPHYR_LAB_RECORD`; each
input, product and stage is appended to it as one JSON line, and becomes part of the run's record.
In an interactive kernel nothing is recorded: the same products are written all the same.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths
from zephyr_lab.core.profiles import require_profile

OWN = "own"  # folder of a build: what experiments of one's own saved


@dataclass(frozen=True)
class Session:
    """Who is running: `seeds` is a count, the seeds are 0 to seeds - 1. own: what an experiment of one's own is called;
    it is saved beside the standard build, never over it."""

    profile: str
    seeds: int
    notebook: str
    own: str = ""

    @property
    def build(self) -> Path:
        standard = paths.build_dir(self.profile)
        return standard / OWN / self.own if self.own else standard


_current = Session("tiny", 3, "interactive")


def begin(profile: str, seeds: int, *, notebook: str, own: str = "") -> Session:
    """Start the run of `notebook` (its file name without ending); later calls belong to it. own: see `Session`.

    Raises ValueError for an unknown profile or a count of seeds below 1.
    """
    global _current
    require_profile(profile)
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds} (a count: seeds 0 to N-1)")
    _current = Session(profile, seeds, notebook, own)
    return _current


def current() -> Session:
    return _current


def read_file(path: Path | None, *, name: str) -> None:
    """Register a file that results depend on, under the logical `name` ("papers/zephyr/published.yaml",
    "data:medusa/judgments.jsonl.gz"). None or an absent file counts too: its arrival makes the run stale."""
    digest = files.sha256(path) if path is not None and path.is_file() else None
    _record("input", name=name, sha256=digest)


def add_product(path: Path) -> None:
    """Register a file written below build/<profile>/."""
    build = current().build
    relative = path.resolve().relative_to((build.parents[1] if current().own else build).resolve())
    _record("product", path=str(relative), sha256=files.sha256(path))


def add_stage(description: dict[str, Any]) -> None:
    """Register a stage whose artefacts the notebook uses (the lab calls this)."""
    _record("stage", **description)


def add_arm(name: str, what: str, *, made_by: str, code: list[list[str]]) -> None:
    """Register an arm of the notebook's experiment: what it is in words, its stages as one expression ("ddpo(dsft(base,
    dialogues), pairs)"), and build function and recipe class of each."""
    _record("arm", name=name, what=what, made_by=made_by, code=code)


def _record(event: str, **facts: Any) -> None:
    target = os.environ.get("ZEPHYR_LAB_RECORD")
    if not target:
        return
    line = json.dumps({"event": event, **facts}) + "\n"
    with open(target, "ab", buffering=0) as stream:  # one write in append mode: lines of several threads do not mix
        stream.write(line.encode())
