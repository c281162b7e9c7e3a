"""What ends with its process: children, file locks, and the machine-wide slots built from locks.

Plain locks are filelock's. Those of stages and slots are our own, because they are handed over: `flock` belongs to the
open file, so a parent may take a lock, hand the file to a worker and close its own copy. From then on the worker holds
it, and its death, however sudden, frees it. filelock would unlock the file for both.
"""

import ctypes
import os
import signal
import sys
import tempfile
from pathlib import Path

from filelock import FileLock, lock_descriptor

from zephyr_lab.core.libraries import OFFLINE, QUIET_ENVIRONMENT, REPEATABLE_ENVIRONMENT
from zephyr_lab.core.profiles import OFFLINE_PROFILES
from zephyr_lab.core.provenance import available_cores

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when process `parent`, which started it, ends in any way.

    The signal follows the thread that started us, so that thread must outlive us (ours waits). Where the kernel knows
    no such signal (macOS) nothing is asked. Exits at once where the parent is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died between our start and the call
        os._exit(1)


def worker_environment(profile: str) -> dict[str, str]:
    """The environment of a stage worker: the user's, quiet, one thread."""
    return {**notebook_environment(profile), **REPEATABLE_ENVIRONMENT}


def notebook_environment(profile: str) -> dict[str, str]:
    """The environment of a notebook process: the user's, quiet, and offline in the profiles that need no hub."""
    offline = OFFLINE if profile in OFFLINE_PROFILES else {}
    return {**offline, **os.environ, **QUIET_ENVIRONMENT, "PYTHONHASHSEED": "0"}


def locked(path: Path, *, wait: bool = True) -> FileLock:
    """The lock of `path`, to be entered; without `wait` that raises filelock.Timeout where somebody else holds it.

    Lock files stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, blocking=wait)


def try_lock(path: Path) -> int | None:
    """The descriptor of an exclusively locked file, or None where somebody else holds it.

    Closing it gives the lock back, or hands it over: it lives on in a process that was given the descriptor.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    if lock_descriptor(handle, blocking=False):
        return handle
    os.close(handle)
    return None


def slot_count() -> int:
    """How many workers may compute at once on this machine: `ZEPHYR_LAB_SLOTS`, else the cores this process may use.

    Raises ValueError where the variable is not a positive number.
    """
    named = os.environ.get("ZEPHYR_LAB_SLOTS")
    if named is None:
        return available_cores()
    if not named.isdecimal() or int(named) < 1:
        raise ValueError(f"ZEPHYR_LAB_SLOTS must be a number from 1 up, got {named!r}")
    return int(named)


def try_slot() -> int | None:
    """The locked descriptor of a free slot, or None while all are taken."""
    folder = _slot_dir()
    handles = (try_lock(folder / f"slot-{number}") for number in range(slot_count()))
    return next((handle for handle in handles if handle is not None), None)


def _slot_dir() -> Path:
    """One folder a user and machine; a local disk, since slots of two machines are not the same slots.

    Raises PermissionError where another user owns the folder.
    """
    named = os.environ.get("ZEPHYR_LAB_SLOT_DIR")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"zephyr-lab-slots-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; set ZEPHYR_LAB_SLOT_DIR to a folder of your own")
    return folder
