"""Child processes that cannot outlive their parent, and the environment that makes their work repeatable."""

import ctypes
import os
import signal
import sys

from zephyr_lab.core.libraries import OFFLINE, QUIET_ENVIRONMENT, REPEATABLE_ENVIRONMENT
from zephyr_lab.core.profiles import OFFLINE_PROFILES

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
