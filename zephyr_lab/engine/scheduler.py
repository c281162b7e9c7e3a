"""Build what is missing: stages in topological order, one single-thread worker process each, slots shared by all.

Several notebooks may ask for the same stages at once; each stage is built once, by whoever takes its lock first, and
the others wait for the result. The process that asks (kernel or command) only waits and shows; it never trains.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from zephyr_lab.core import files, paths, session
from zephyr_lab.engine import processes, progress, run_records, stages, store
from zephyr_lab.engine.stages import Resolved, Stage
from zephyr_lab.engine.workers import Workers

POLL_SECONDS = 0.05


class StageFailed(RuntimeError):
    """A build function raised or its worker died; the message names stage, seed, cause and log."""


class Stopped(KeyboardInterrupt):
    """The building of stages was interrupted. A notebook shows this one line, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def get(stage: Stage) -> Path:
    """The folder of the finished `stage`; built now where it is missing."""
    return get_many([stage])[0]


def get_many(wanted: Iterable[Stage]) -> list[Path]:
    """Folders of the finished stages, in the order asked for; what is missing is built by workers now.

    Progress shows where you are (terminal or notebook). Raises StageFailed where a build raises; its checkpoints stay
    and the next call resumes. Interrupting stops the workers; an unfinished result is never taken for a stage.
    """
    wanted = list(wanted)
    profile = session.current().profile
    resolution = stages.Resolution()
    keys = [resolution.add(stage) for stage in wanted]
    _Run(profile, resolution.ordered).until_finished(keys)
    for item in resolution.ordered.values():
        record = store.end_record(store.Slot(profile, item.stage.name, item.key).final) or {}
        session.add_stage(run_records.used_stage(item.description, item.key, record.get("kept", [])))
    return [store.Slot(profile, stage.name, key).final for stage, key in zip(wanted, keys, strict=True)]


def metrics(stage: Stage) -> dict[str, float]:
    """What the build of `stage` returned; it is built now where it is missing, an input that somebody removed too."""
    folder = store.Slot(session.current().profile, stage.name, stages.key(stage)).final
    record = store.end_record(folder) or files.read_json(get(stage) / "end.json")
    return record["metrics"]


class _Run:
    """One call of get_many: which stages are finished, which are being built, and by whom."""

    def __init__(self, profile: str, resolved: dict[str, Resolved]) -> None:
        self._resolved = resolved
        self._slots = {key: store.Slot(profile, item.stage.name, key) for key, item in resolved.items()}
        self._workers = Workers(profile)
        self._building: dict[Path, str] = {}  # job file -> key
        self._finished: set[str] = set()
        self._missing: set[str] = set()  # at the start
        self._built = 0

    def until_finished(self, wanted: list[str]) -> None:
        """Build the stages with the keys `wanted`, and of their inputs those that something missing needs."""
        self._look_back_from(wanted)
        self._resolved = {key: item for key, item in self._resolved.items() if key in self._finished | self._missing}
        if not self._missing:
            return
        missing = len(self._missing)
        began = time.monotonic()
        view = progress.view_for_here()
        try:
            while not self._finished.issuperset(self._missing):
                self._reap()
                self._start_ready()
                view.show(self._lines())
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            view.close("")
            ready = f"{self._built} of {missing} missing stages were built and are kept"
            raise Stopped(f"stopped: {ready}; the same cell or command goes on from here") from None
        except BaseException:
            view.close("")
            raise
        finally:
            self._workers.stop()
        seconds = time.monotonic() - began
        view.close(f"{self._built} of {missing} missing stages built here, {seconds:.1f} s")

    def _look_back_from(self, wanted: list[str]) -> None:
        queue = list(wanted)
        while queue:
            key = queue.pop()
            if key in self._finished or key in self._missing:
                continue
            if store.is_intact(self._slots[key].final):
                self._finished.add(key)
                store.tidy(self._slots[key])
            else:
                self._missing.add(key)
                queue += self._resolved[key].inputs.values()

    def _start_ready(self) -> None:
        started = self._finished.union(self._building.values())
        for key, item in self._resolved.items():
            ready = key not in started and self._finished.issuperset(item.inputs.values())
            if ready and not self._try_start(item):
                return  # no slot is free: nothing else can start either

    def _try_start(self, item: Resolved) -> bool:
        """Start a worker, or see that somebody else builds or has built the stage. False where slots are all taken."""
        slot = self._slots[item.key]
        lock = processes.try_lock(slot.lock)
        if lock is None:
            return True
        try:
            if store.is_intact(slot.final):  # finished by another process since we looked
                store.discard(slot.scratch)
                self._finished.add(item.key)
                return True
            seat = processes.try_slot()
            if seat is None:
                return False
            try:
                job = _job(slot, item)
                self._building[job] = item.key
                self._workers.start(job, item.stage, (lock, seat))
            finally:
                os.close(seat)
        finally:
            os.close(lock)  # a started worker holds its own copy
        return True

    def _reap(self) -> None:
        for job, code in self._workers.ended().items():
            key = self._building.pop(job)
            if code != 0:
                raise StageFailed(_failure(self._slots[key], self._resolved[key].stage.seed, code))
            self._finished.add(key)
            self._built += 1

    def _lines(self) -> list[str]:
        lines = [f"{len(self._finished)} of {len(self._resolved)} stages ready, {len(self._building)} building here"]
        for key, slot in self._slots.items():
            if key not in self._finished and (state := progress.read(slot.scratch / "progress.json")):
                lines.append(state.line())
        return lines


def _job(slot: store.Slot, item: Resolved) -> Path:
    """The worker's instructions, in a scratch folder ready for it."""
    slot.scratch.mkdir(parents=True, exist_ok=True)
    (slot.scratch / "error.json").unlink(missing_ok=True)
    roles = item.stage.inputs
    inputs = {role: str(store.Slot(slot.profile, roles[role].name, key).final) for role, key in item.inputs.items()}
    job = {"profile": slot.profile, "key": slot.key, "description": item.description, "inputs": inputs}
    files.write_json(slot.scratch / "job.json", job)
    return slot.scratch / "job.json"


def _failure(slot: store.Slot, seed: int, code: int) -> str:
    """One line: which stage, why, where the log is."""
    stage = f"stage {slot.name}, seed {seed}"
    scratch = slot.scratch.relative_to(paths.project_root())
    report = slot.scratch / "error.json"
    if report.is_file():
        error = files.read_json(report)
        return f"{stage} failed: {error['type']}: {error['message']} (traceback in {scratch}/error.json)"
    cause = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"{stage} {cause} (log in {scratch}/log.txt); run again to resume from its last checkpoint"
