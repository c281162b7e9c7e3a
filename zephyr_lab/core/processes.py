"""Child processes that cannot outlive their parent, and the environment that makes their work repeatable."""

import ctypes
import os
import signal
import sys

# One thread and fixed hashing make bytes repeatable; libraries stay offline and silent about their users.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONUNBUFFERED": "1",
}
QUIET_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "WANDB_DISABLED": "true",
    "DO_NOT_TRACK": "1",
}
OFFLINE_PROFILES = ("smoke", "tiny", "world-gpu")  # unless the user sets HF_HUB_OFFLINE

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
    return {**notebook_environment(profile), **WORKER_ENVIRONMENT}


def notebook_environment(profile: str) -> dict[str, str]:
    """The environment of a notebook process: the user's, quiet, and offline in the profiles that need no hub."""
    offline = {"HF_HUB_OFFLINE": "1"} if profile in OFFLINE_PROFILES else {}
    return {**offline, **os.environ, **QUIET_ENVIRONMENT, "PYTHONHASHSEED": "0"}
