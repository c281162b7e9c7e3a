"""`zephyr-lab clean`: what in the run store no notebook of this checkout reaches any more. Listed first, always."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from zephyr_lab.core import files, paths
from zephyr_lab.engine import notebooks, processes, run_records, stages, store
from zephyr_lab.engine.symbols import Reading, reading_now


@dataclass(frozen=True)
class Leftover:
    """A folder that could go. state: "overtaken" (its code or recipe is no longer in this checkout), "unused" (it would
    still serve, but no notebook's last run used it), "unfinished" (what a build that was broken off left)."""

    stage: str
    seed: int
    key: str
    state: str
    bytes: int
    folder: Path
    lock: Path


def leftovers(profile: str) -> list[Leftover]:
    """Everything in the store of `profile` that no notebook's last run reaches, directly or as an input of an input."""
    finished = store.finished(profile)
    reached = _with_inputs(_used_by_notebooks(profile) | _used_by_builds(profile), finished)
    unreached, reading = [], reading_now()
    for key, record in finished.items():
        if key not in reached:
            description = record["stage"]
            state = "unused" if _is_current(key, description, reading) else "overtaken"
            slot = store.Slot(profile, description["name"], key)
            unreached.append(_leftover(slot, description["seed"], state, slot.final))
    return unreached + _unfinished(profile, reading)


def removable(profile: str, *, unused: bool) -> list[Leftover]:
    """The leftovers that may go: what the code has overtaken; with `unused` also what would still serve.

    Raises ValueError where `unused` is asked for while a notebook has no finished run.
    """
    records = {one.number: run_records.record_path(profile, one.name) for one in notebooks.all_notebooks()}
    unknown = [number for number, path in records.items() if not path.is_file()]
    if unused and unknown:
        raise ValueError(
            f"notebooks {', '.join(unknown)} have no finished run at profile {profile}, so what they use is not known; "
            "run them first, or clean without --unused"
        )
    return [one for one in leftovers(profile) if unused or one.state != "unused"]


def remove(doomed: Iterable[Leftover]) -> list[Leftover]:
    """Delete the folders, and return those deleted; one that somebody works on at this moment stays."""
    removed = []
    for one in doomed:
        with contextlib.suppress(Timeout), processes.locked(one.lock, wait=False):
            store.discard(one.folder)
            removed.append(one)
    return removed


def table(leftover: Iterable[Leftover]) -> list[dict[str, Any]]:
    """One row a stage and state: how many folders, how much room."""
    groups: dict[tuple[str, str], list[Leftover]] = {}
    for one in leftover:
        groups.setdefault((one.stage, one.state), []).append(one)
    return [
        {"stage": name, "state": state, "folders": len(group), "MiB": round(sum(one.bytes for one in group) / 2**20, 1)}
        for (name, state), group in sorted(groups.items())
    ]


def _used_by_notebooks(profile: str) -> set[str]:
    records = (run_records.record_path(profile, one.name) for one in notebooks.all_notebooks())
    return {used["key"] for path in records if path.is_file() for used in files.read_json(path)["stages"]}


def _used_by_builds(profile: str) -> set[str]:
    """Keys of what is being built or would be resumed, and of its inputs: a build reads them without their locks."""
    jobs = paths.runs_dir(profile).glob(".scratch/*/job.json")
    tables = [files.read_json(job) for job in jobs]
    return {key for table in tables for key in (table["key"], *table["description"]["inputs"].values())}


def _with_inputs(keys: set[str], finished: dict[str, dict[str, Any]]) -> set[str]:
    reached, queue = set(), list(keys)
    while queue:
        key = queue.pop()
        if key not in reached:
            reached.add(key)
            queue += finished[key]["stage"]["inputs"].values() if key in finished else ()
    return reached


def _is_current(key: str, description: dict[str, Any], reading: Reading) -> bool:
    """Whether the key is the one that the present source and libraries give."""
    try:
        return stages.key_of(stages.renewed(description, reading)) == key
    except ValueError:  # its code is gone
        return False


def _unfinished(profile: str, reading: Reading) -> list[Leftover]:
    """Scratch folders that nobody works in, of stages whose code has moved on; others are resumed, so they stay."""
    overtaken = []
    for folder in sorted(paths.runs_dir(profile).glob(".scratch/*")):
        job = folder / "job.json"
        table = files.read_json(job) if job.is_file() else None
        if table is None or not _is_current(table["key"], table["description"], reading):
            name, _, key = folder.name.rpartition("-")
            seed = table["description"]["seed"] if table else 0
            overtaken.append(_leftover(store.Slot(profile, name, key), seed, "unfinished", folder))
    return overtaken


def _leftover(slot: store.Slot, seed: int, state: str, folder: Path) -> Leftover:
    """With the bytes that go with the folder; a file that a kept result shares takes no room of its own."""
    status = [path.stat() for path in folder.rglob("*") if path.is_file()]
    size = sum(one.st_size for one in status if one.st_nlink == 1)
    return Leftover(slot.name, seed, slot.key, state, size, folder, slot.lock)
