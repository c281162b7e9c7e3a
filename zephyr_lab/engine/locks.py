"""File locks that end with the process that holds them, and the machine-wide slots built from them.

`flock` belongs to the open file, so a parent may take a lock, hand the file to a worker it starts and close its own
copy: from then on the worker holds it, and its death, however sudden, sets it free.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zephyr_lab.core.provenance import available_cores


def try_lock(path: Path) -> int | None:
    """The descriptor of an exclusively locked file, or None where somebody else holds it. Lock files stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, after waiting for whoever has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def unlock(handle: int) -> None:
    """Give a lock back (or hand it over: the lock lives on in a process that was given the descriptor)."""
    os.close(handle)


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
    for number in range(slot_count()):
        handle = try_lock(folder / f"slot-{number}")
        if handle is not None:
            return handle
    return None


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
