"""File locks that end with the process that holds them, and the machine-wide slots built from them.

Plain locks are filelock's. Those of stages and slots are own code, for they are handed over: `flock` belongs to the
open file, so a parent may take a lock, hand the file to a worker it starts and close its own copy; from then on the
worker holds it, and its death, however sudden, sets it free. filelock would unlock the file for both.
"""

import os
import tempfile
from pathlib import Path

from filelock import FileLock, lock_descriptor

from zephyr_lab.core.provenance import available_cores


def held(path: Path, *, wait: bool = True) -> FileLock:
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
