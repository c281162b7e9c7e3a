"""Where and with what a result was made: code, versions, machine. No user, host or absolute path: it is published."""

import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths
from zephyr_lab.core.libraries import NAMED_PACKAGES


@lru_cache(maxsize=1)
def describe() -> dict[str, Any]:
    """Git state, lock file, versions, machine; the same for all stages and notebooks of a process."""
    return {
        "git": git_state(),
        "lock": lock_digest(),
        "python": platform.python_version(),
        "packages": {name: version for name in NAMED_PACKAGES if (version := _version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": available_cores(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "gpus": gpus(),
    }


def lock_digest() -> str:
    """SHA-256 of constraints.txt, the one lock; "absent" in a folder without it, and outside a checkout."""
    try:
        lock = paths.project_root() / "constraints.txt"
    except FileNotFoundError:  # an installed package, used on its own
        return "absent"
    return files.sha256(lock) if lock.is_file() else "absent"


def git_state() -> dict[str, Any]:
    """Commit and whether tracked files differ from it; nulls outside a git checkout."""
    commit = _output("git", "rev-parse", "HEAD")
    changed = _output("git", "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit, "changed": None if changed is None else bool(changed)}


def available_cores() -> int:
    """Cores this process may run on (an affinity mask counts; macOS has none)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA card, as `nvidia-smi` reports; empty where there is none."""
    listing = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return listing.splitlines() if listing else []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """What a command prints; None where it is missing or fails."""
    try:
        result = subprocess.run(command, cwd=paths.project_root(), capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
