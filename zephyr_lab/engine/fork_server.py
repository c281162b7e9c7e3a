"""The process that stage workers are forked from: `python -m zephyr_lab.engine.fork_server SOCKET PARENT`.

Loading the trainers takes seconds, as long as a small stage trains; loaded once here, they cost each worker nothing.
Only other people's libraries are loaded before the fork: every worker reads the project's own code from disk, as it is
at that moment. Its workers die with it; without work it waits for the next call of `get_many`, and ends after a while.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable

from zephyr_lab.engine.processes import die_with_parent
from zephyr_lab.engine.symbols import reading_now

LONGEST_MESSAGE = 2**20
POLL_SECONDS = 0.02
IDLE_SECONDS = 90.0  # with nothing to do


def serve(connection: socket.socket) -> None:
    """Fork a worker for each message, and report each that ended; until the other side hangs up or asks for nothing.

    A message is {"job": path, "log": path, "code": build function and recipe} with two locked descriptors, which go
    over to the worker. The answer, when it has ended, is {"job": path, "code": number}, a signal as a negative number.
    """
    running: dict[int, str] = {}
    while True:
        if select.select([connection], [], [], POLL_SECONDS if running else IDLE_SECONDS)[0]:
            message, held, _, _ = socket.recv_fds(connection, LONGEST_MESSAGE, 2)
            if not message:
                return
            wanted = json.loads(message)
            with contextlib.suppress(ValueError):  # source that does not parse: the worker reports it
                load(reading_now().of(*wanted["code"]).libraries)  # files parsed here cost a worker nothing
            running[_fork(wanted, held)] = wanted["job"]
        elif not running:
            return
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            report = {"job": running.pop(pid), "code": os.waitstatus_to_exitcode(status)}
            connection.send(json.dumps(report).encode())


def load(names: Iterable[str]) -> None:
    """Import what is not loaded yet of `names`: modules, or names in modules ("trl.DPOTrainer").

    A library that does not load is left to the worker, whose own import says why.
    """
    for name in names:
        module, _, attribute = name.rpartition(".")
        with contextlib.suppress(Exception):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                getattr(importlib.import_module(module), attribute)  # some libraries load a name when it is asked for


def _fork(wanted: dict[str, str], held: list[int]) -> int:
    """Start the worker of a job; the descriptors `held` are its own from here on."""
    for handle in held:
        os.set_inheritable(handle, False)  # processes that the build starts must not keep our locks alive
    sys.stdout.flush()
    sys.stderr.flush()
    server = os.getpid()
    gc.freeze()  # a collection in the worker leaves the pages it shares with us alone
    pid = os.fork()
    if pid == 0:
        _become_worker(wanted, server)
    for handle in held:
        os.close(handle)
    return pid


def _become_worker(wanted: dict[str, str], server: int) -> None:
    """Build the stage and leave, in the forked process."""
    code = 1
    try:
        die_with_parent(server)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(wanted["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        from zephyr_lab.engine import worker  # here, so that it and all it imports is read now

        code = worker.run(wanted["job"])
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked for the stages was interrupted too, and ends us
    serve(socket.socket(fileno=int(sys.argv[1])))
