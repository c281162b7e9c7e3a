"""The run store: runs/<profile>/<stage>/<key>/, finished stages only.

A worker builds in a scratch folder; the artefacts and, last, `end.json` are written there, and the folder is renamed
into place. A folder without a valid `end.json` is not a stage, so a crash at any moment leaves no unfinished one.
"""

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from zephyr_lab.core import files, paths
from zephyr_lab.engine import processes


@dataclass(frozen=True)
class Slot:
    """Where one stage (name and key) lives in the store of a profile, finished or not."""

    profile: str
    name: str
    key: str

    @property
    def final(self) -> Path:
        return paths.runs_dir(self.profile) / self.name / self.key

    @property
    def scratch(self) -> Path:
        return paths.runs_dir(self.profile) / ".scratch" / f"{self.name}-{self.key}"

    @property
    def out(self) -> Path:
        return self.scratch / "out"

    @property
    def checkpoints(self) -> Path:
        return self.scratch / "checkpoints"

    @property
    def lock(self) -> Path:
        return paths.runs_dir(self.profile) / ".locks" / f"{self.name}-{self.key}.lock"


def end_record(folder: Path) -> dict[str, Any] | None:
    """The end record of a finished stage whose files are all there with their sizes; None otherwise."""
    path = folder / "end.json"
    if not path.is_file():
        return None
    try:
        record = files.read_json(path)
        whole = all((folder / name).stat().st_size == entry["bytes"] for name, entry in record["files"].items())
    except (ValueError, KeyError, TypeError, OSError):
        return None
    return record if whole else None


def finished(profile: str) -> dict[str, dict[str, Any]]:
    """Key -> end record of every finished stage, oldest first."""
    ends = sorted(paths.runs_dir(profile).glob("[!.]*/[!.]*/end.json"), key=lambda path: path.stat().st_mtime_ns)
    records = {path.parent.name: end_record(path.parent) for path in ends}
    return {key: record for key, record in records.items() if record is not None and "stage" in record}


def is_intact(folder: Path) -> bool:
    """Whether every artefact still has the hash it was finished with (reads all bytes)."""
    record = end_record(folder)
    return record is not None and all(
        files.sha256(folder / name) == entry["sha256"] for name, entry in record["files"].items()
    )


def finish(slot: Slot, record: dict[str, Any]) -> Path:
    """Make the scratch result of `slot` the finished stage: end record last, with size and SHA-256 of each file, then
    one rename. The caller holds the stage's lock."""
    artefacts = {
        path.relative_to(slot.out).as_posix(): {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
        for path in sorted(slot.out.rglob("*"))
        if path.is_file()
    }
    files.write_json(slot.out / "end.json", {**record, "files": artefacts})
    slot.final.parent.mkdir(parents=True, exist_ok=True)
    discard(slot.final)  # an earlier folder here was not whole
    os.rename(slot.out, slot.final)
    discard(slot.scratch)
    return slot.final


def tidy(slot: Slot) -> None:
    """Remove what a process that was killed at the very end left of a finished stage, unless somebody works on it."""
    leftovers = [slot.scratch, *slot.final.parent.glob(".removed-*")]
    if any(folder.exists() for folder in leftovers):
        with contextlib.suppress(Timeout), processes.locked(slot.lock, wait=False):
            for folder in leftovers:
                shutil.rmtree(folder, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a folder if it is there; renamed first, so that nobody finds it half-removed."""
    if not folder.exists():
        return
    doomed = folder.with_name(f".removed-{folder.name}-{os.getpid()}")
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)
