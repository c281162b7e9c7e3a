"""The processes that build stages: forked from a process with the libraries loaded, or started from nothing.

Workers on the CPU are forked (Linux). A worker on a GPU starts from nothing, since CUDA does not survive a fork, and so
does every worker on other systems.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from zephyr_lab.core import files, paths
from zephyr_lab.engine.fork_server import IDLE_SECONDS, LONGEST_MESSAGE
from zephyr_lab.engine.processes import worker_environment
from zephyr_lab.engine.stages import Stage

SECONDS_TO_DIE = 5.0
SECONDS_IDLE = IDLE_SECONDS - 15.0  # well before a server without work ends by itself

_idle: "_Server | None" = None  # the fork server of the last call: loading libraries takes longer than a small stage


class Workers:
    """The workers of one call of `get_many`, by job file. They die with this process, or by `stop`."""

    def __init__(self, profile: str) -> None:
        self._environment = worker_environment(profile)
        self._fresh: dict[Path, subprocess.Popen[bytes]] = {}
        self._server: _Server | None = None

    def start(self, job: Path, stage: Stage, held: tuple[int, int]) -> None:
        """Start the worker of the job file `job`; the locked descriptors `held` (stage, slot) go over to it."""
        log = job.with_name("log.txt")
        if forks(stage):
            self._server = self._server or _server_for(self._environment)
            self._server.start(job, log, stage.code, held)
            return
        files.write_json(job, {**files.read_json(job), "parent": os.getpid(), "locks": list(held)})
        with log.open("ab") as stream:
            self._fresh[job] = subprocess.Popen(
                [sys.executable, "-m", "zephyr_lab.engine.worker", str(job)],
                cwd=paths.project_root(),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                pass_fds=held,
            )

    def ended(self) -> dict[Path, int]:
        """Exit codes of the workers that ended since the last call; a signal as a negative number."""
        codes = {job: code for job, process in self._fresh.items() if (code := process.poll()) is not None}
        for job in codes:
            del self._fresh[job]
        return codes | (self._server.ended() if self._server else {})

    def stop(self) -> None:
        """Kill whatever still runs, and wait for its end. A fork server without work waits for the next call."""
        global _idle
        for process in self._fresh.values():
            process.kill()
        for process in self._fresh.values():
            process.wait()
        server, self._server = self._server, None
        if server and server.is_busy():
            server.stop()
        elif server:
            _idle, server.idle_since = server, time.monotonic()


def forks(stage: Stage) -> bool:
    """Whether the worker of `stage` may be forked."""
    return sys.platform == "linux" and getattr(stage.recipe, "device", "cpu") == "cpu"


def _server_for(environment: dict[str, str]) -> "_Server":
    """The server that waits, where it still serves, else a new one."""
    global _idle
    server, _idle = _idle, None
    if server and server.serves(environment):
        return server
    if server:
        server.stop()
    return _Server(environment)


def _loaded_code() -> dict[str, int]:
    """When each file of ours that a fork server loads before it forks was changed last."""
    root = Path(__file__).parents[1]
    loaded = [*(root / "core").glob("*.py"), *(root / "engine").glob("*.py")]
    return {str(path): path.stat().st_mtime_ns for path in loaded}


class _Server:
    """A fork server, from the side of whoever asks it for workers."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._of = (environment, paths.project_root(), _loaded_code())
        self.idle_since = 0.0
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "zephyr_lab.engine.fork_server", str(theirs.fileno()), str(os.getpid())],
                cwd=paths.project_root(),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self._running: set[Path] = set()

    def serves(self, environment: dict[str, str]) -> bool:
        """Whether it lives, has not waited for too long, and would fork what a new one would."""
        alive = self._process.poll() is None and time.monotonic() - self.idle_since < SECONDS_IDLE
        return alive and self._of == (environment, paths.project_root(), _loaded_code())

    def is_busy(self) -> bool:
        """Whether a worker of it may still run, or it died."""
        return bool(self._running) or self._process.poll() is not None

    def start(self, job: Path, log: Path, code: tuple[str, str], held: tuple[int, int]) -> None:
        message = {"job": str(job), "log": str(log), "code": code}
        self._running.add(job)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a server that died: `ended` tells
            socket.send_fds(self._connection, [json.dumps(message).encode()], list(held))

    def ended(self) -> dict[Path, int]:
        codes = {}
        self._connection.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while message := self._connection.recv(LONGEST_MESSAGE):
                report = json.loads(message)
                codes[Path(report["job"])] = report["code"]
        if not codes and (code := self._process.poll()) is not None:  # died, and its workers with it
            codes = dict.fromkeys(self._running, code)
        self._running -= codes.keys()
        return codes

    def stop(self) -> None:
        """Its workers hold the other end of the connection as long as they live."""
        self._process.kill()
        self._process.wait()
        self._connection.settimeout(SECONDS_TO_DIE)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while self._connection.recv(LONGEST_MESSAGE):
                pass
        self._connection.close()
