"""Run notebooks: those that are not fresh, each in a process of its own, as many at once as asked for.

A run is done when its process ended with code 0, its products are there, and its record was written, in that order.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zephyr_lab.core import files, paths, session
from zephyr_lab.engine import freshness, processes, progress, run_records
from zephyr_lab.engine.notebooks import Notebook, all_notebooks

POLL_SECONDS = 0.05
PRIVATE = "zephyr-"  # folders of running notebooks below the system's temporary one: zephyr-<pid of the runner>-...


@dataclass(frozen=True)
class Outcome:
    """How a notebook came out: fresh (not run), ran (record is new) or failed (error says why)."""

    notebook: Notebook
    state: str
    seconds: float = 0.0
    error: str = ""
    record: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Running:
    """A notebook that a process of this run executes."""

    notebook: Notebook
    parameters: dict[str, Any]
    process: subprocess.Popen[bytes]
    private: Path
    lock: FileLock
    started: float
    shaped: dict[str, Any]  # of the code as it was when the run began
    earlier: dict[str, str]  # products of the notebooks before it, likewise

    def release(self) -> None:
        shutil.rmtree(self.private, ignore_errors=True)
        self.lock.release()


def run(chosen: list[Notebook], texts: Mapping[str, str], *, jobs: int) -> list[Outcome]:
    """Bring `chosen` up to date at the parameters `texts`, `jobs` at a time, in order.

    All parameters are checked before the first kernel starts (ValueError). A notebook that fails does not stop the
    others, but those that run after it are not run. Interrupting stops all processes.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    parameters = {notebook.name: notebook.resolve(texts) for notebook in chosen}
    _sweep({values["profile"] for values in parameters.values()})
    return _Runner(chosen, parameters, jobs).until_done()


def explain(chosen: list[Notebook], texts: Mapping[str, str]) -> dict[str, list[str]]:
    """name -> why the notebook would run now; an empty list where it would not."""
    return {notebook.name: freshness.reasons(notebook, notebook.resolve(texts)) for notebook in chosen}


class _Runner:
    def __init__(self, chosen: list[Notebook], parameters: dict[str, dict[str, Any]], jobs: int) -> None:
        self._waiting = list(chosen)
        self._parameters = parameters
        self._jobs = jobs
        self._known = all_notebooks()
        self._running: dict[str, _Running] = {}
        self._outcomes: dict[str, Outcome] = {}

    def until_done(self) -> list[Outcome]:
        view = progress.view_for_here()
        try:
            while self._waiting or self._running:
                self._reap()
                self._start_ready()
                view.show(self._lines())
                if self._running:
                    time.sleep(POLL_SECONDS)
        except BaseException:
            self._stop()
            view.close("")
            raise
        view.close(self._summary())
        return [self._outcomes[name] for name in self._parameters]

    def _start_ready(self) -> None:
        for notebook in list(self._waiting):
            before = {other.name for other in freshness.earlier(notebook, self._known)}
            if before & ({other.name for other in self._waiting} | set(self._running)):
                continue
            failed = [name for name in before if name in self._outcomes and self._outcomes[name].state == "failed"]
            if failed:
                self._finish(notebook, Outcome(notebook, "failed", error=f"not run: {failed[0]} failed before it"))
            elif len(self._running) < self._jobs:
                self._start_or_skip(notebook)

    def _start_or_skip(self, notebook: Notebook) -> None:
        """Start the notebook unless its last run stands; leave it waiting while another command runs it."""
        parameters = self._parameters[notebook.name]
        lock = processes.locked(paths.build_dir(parameters["profile"]) / ".locks" / notebook.name, wait=False)
        try:
            lock.acquire()
        except Timeout:
            time.sleep(POLL_SECONDS)
            return
        try:
            if freshness.reasons(notebook, parameters):
                self._running[notebook.name] = _start(notebook, parameters, lock)
                self._waiting.remove(notebook)
            else:
                record = run_records.load(parameters["profile"], notebook.name) or {}
                self._finish(notebook, Outcome(notebook, "fresh", record=record))
                lock.release()
        except BaseException:
            lock.release()
            raise

    def _reap(self) -> None:
        for name, running in list(self._running.items()):
            code = running.process.poll()
            if code is not None:
                del self._running[name]
                try:
                    self._outcomes[name] = _conclude(running, code)
                finally:
                    running.release()

    def _finish(self, notebook: Notebook, outcome: Outcome) -> None:
        self._waiting.remove(notebook)
        self._outcomes[notebook.name] = outcome

    def _stop(self) -> None:
        for running in self._running.values():
            running.process.kill()  # its kernel and workers die with it
        for running in self._running.values():
            running.process.wait()
            running.release()

    def _lines(self) -> list[str]:
        now = time.time()
        lines = [f"{name}  {now - running.started:.0f} s" for name, running in self._running.items()]
        profiles = sorted({parameters["profile"] for parameters in self._parameters.values()})
        scratch = [path for profile in profiles for path in paths.runs_dir(profile).glob(".scratch/*/progress.json")]
        return lines + [f"  {state.line()}" for path in sorted(scratch) if (state := progress.read(path))]

    def _summary(self) -> str:
        states = [outcome.state for outcome in self._outcomes.values()]
        ran, fresh, failed = (states.count(state) for state in ("ran", "fresh", "failed"))
        return f"{ran} run, {fresh} fresh" + (f", {failed} failed" if failed else "")


def _start(notebook: Notebook, parameters: dict[str, Any], lock: FileLock) -> _Running:
    profile = parameters["profile"]
    if notebook.is_standard(parameters):  # from here on the old run does not count
        run_records.record_path(profile, notebook.name).unlink(missing_ok=True)
    shaped, earlier = run_records.shaped_by(notebook), freshness.earlier_digests(notebook, profile)
    executed = run_records.executed_path(profile, notebook.name)
    executed.parent.mkdir(parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(prefix=f"{PRIVATE}{os.getpid()}-"))  # sockets live here: the name must be short
    job = {
        "parent": os.getpid(),
        "notebook": str(notebook.path),
        "output": str(_unfinished(executed)),
        "parameters": parameters,
        "private": str(private),
    }
    files.write_json(private / "job.json", job)
    environment = processes.notebook_environment(profile) | {
        "ZEPHYR_LAB_RECORD": str(private / "record.jsonl"),
        "ZEPHYR_LAB_ROOT": str(paths.project_root()),
        "JUPYTER_RUNTIME_DIR": str(private),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(paths.project_root()), os.environ.get("PYTHONPATH")])),
    }
    log = _log_path(profile, notebook)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "zephyr_lab.engine.notebook_process", str(private / "job.json")],
            cwd=paths.project_root(),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    return _Running(notebook, parameters, process, private, lock, time.time(), shaped, earlier)


def _conclude(running: _Running, code: int) -> Outcome:
    """Put the executed notebook in place and, last of all, write the record; or say why the run does not count."""
    notebook, profile, finished = running.notebook, running.parameters["profile"], time.time()
    executed = run_records.executed_path(profile, notebook.name)
    seconds = finished - running.started
    events = run_records.read_events(running.private / "record.jsonl")
    own = _own_folder(profile, events)
    if own is None:  # whatever its parameters were: it may have written over the standard run's products
        run_records.record_path(profile, notebook.name).unlink(missing_ok=True)
    if code != 0:
        log = _log_path(profile, notebook).relative_to(paths.project_root())
        error = f"{_cause(running.private, code)} ({_keep_to_look_at(executed)}log: {log})"
        return Outcome(notebook, "failed", seconds, error=error)
    if own is None:
        os.replace(_unfinished(executed), executed)
        _failed(executed).unlink(missing_ok=True)
    try:
        record = run_records.compose(
            notebook, running.parameters, running.shaped, events, started=running.started, finished=finished
        )
    except ValueError as error:
        return Outcome(notebook, "failed", seconds, error=str(error))
    if own is not None:  # neither the record nor the products of the standard run are touched
        os.replace(_unfinished(executed), own / executed.name)
        return Outcome(notebook, "ran", seconds, record=record)
    if notebook.after:
        record["earlier"] = running.earlier
    listing = _products_path(profile, notebook.name)
    previous = set(files.read_json(listing)) if listing.is_file() else set()
    _remove_orphans(profile, notebook.name, previous - set(record["products"]))
    files.write_json(listing, sorted(record["products"]))
    files.write_json(run_records.record_path(profile, notebook.name), record)
    return Outcome(notebook, "ran", seconds, record=record)


def _own_folder(profile: str, events: list[dict[str, Any]]) -> Path | None:
    """Where a run saved that put its products beside the standard build; None for a standard run."""
    products = [Path(event["path"]) for event in events if event["event"] == "product"]
    if not products or products[0].parts[0] != session.OWN:
        return None
    return paths.build_dir(profile).joinpath(*products[0].parts[:2])


def _sweep(profiles: set[str]) -> None:
    """Remove what a killed runner left in the temporary folder, and all products of notebooks that are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PRIVATE}[0-9]*-*"):
        pid = int(folder.name.split("-")[1])
        if folder.stat().st_uid == os.getuid() and not progress.is_alive(pid):
            shutil.rmtree(folder, ignore_errors=True)
    known = {notebook.name for notebook in all_notebooks()}
    for profile in profiles:
        for listing in _products_path(profile, "any").parent.glob("*.json"):
            if listing.stem not in known:
                _remove_orphans(profile, listing.stem, set(files.read_json(listing)))
                run_records.record_path(profile, listing.stem).unlink(missing_ok=True)
                listing.unlink()


def _cause(private: Path, code: int) -> str:
    report = private / "error.json"
    if report.is_file():
        return files.read_json(report)["message"]
    return f"its process was killed by signal {-code}" if code < 0 else f"its process ended with code {code}"


def _keep_to_look_at(executed: Path) -> str:
    """A notebook that stopped at an error is kept as NAME.failed.ipynb; an empty file (no space left) is not."""
    unfinished = _unfinished(executed)
    if not unfinished.is_file() or not unfinished.stat().st_size:
        unfinished.unlink(missing_ok=True)
        return ""
    os.replace(unfinished, _failed(executed))
    return f"see {_failed(executed).relative_to(paths.project_root())}; "


def _failed(executed: Path) -> Path:
    return executed.with_name(f"{executed.stem}.failed.ipynb")


def _unfinished(executed: Path) -> Path:
    """Where papermill writes while it runs; it wants the ending .ipynb."""
    return executed.with_name(f"{executed.stem}.unfinished.ipynb")


def _log_path(profile: str, notebook: Notebook) -> Path:
    return paths.build_dir(profile) / "logs" / f"{notebook.name}.log"


def _products_path(profile: str, name: str) -> Path:
    return paths.build_dir(profile) / ".products" / f"{name}.json"


def _remove_orphans(profile: str, own: str, names: set[str]) -> None:
    """Delete what an earlier run of notebook `own` made and this one no longer makes, unless another notebook does."""
    records = _products_path(profile, own).parent.glob("*.json")
    kept = {name for path in records if path.stem != own for name in files.read_json(path)}
    for name in names - kept:
        (paths.build_dir(profile) / name).unlink(missing_ok=True)
