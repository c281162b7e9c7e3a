"""What a training process sets once, before its first tensor, and what its work cost: CPU seconds and memory."""

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc refuses more
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux
MIB = 2**20


def prepare() -> None:
    """One torch thread, and large blocks of memory kept for reuse.

    The number of threads changes the order of sums and with it the bits of every weight. glibc hands blocks as large
    as a batch of logits back to the kernel each time, whose zeroed pages then cost a tenth of a small model's step.
    """
    torch.set_num_threads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent outside glibc
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def pick_device(name: str) -> torch.device:
    """The device named "cpu" or "cuda". Raises ValueError for another name, or where there is no CUDA device."""
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda and there is none here; profiles smoke and tiny run on CPUs")
    return torch.device(name)


@dataclass
class Meter:
    """`cpu_seconds` of all threads; `peak_mib`: the largest resident memory inside less that before, in MiB."""

    cpu_seconds: float = 0.0
    peak_mib: float = 0.0

    def metrics(self) -> dict[str, float]:
        return {"cpu_seconds": self.cpu_seconds, "peak_mib": self.peak_mib}


@contextmanager
def metered() -> Iterator[Meter]:
    """Measures the block. On Linux the peak starts anew; elsewhere it is what the block added to the process's peak."""
    meter = Meter()
    before = _reset_peak()
    began = time.process_time()
    try:
        yield meter
    finally:
        meter.cpu_seconds = time.process_time() - began
        meter.peak_mib = max(_peak() - before, 0) / MIB


def _reset_peak() -> int:
    """Resident bytes now, from which the peak is counted."""
    if not STATUS.is_file():
        return _peak()
    try:
        RESET.write_text("5")  # proc(5): the peak resident set size starts anew
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int:
    if STATUS.is_file():
        return _status("VmHWM")
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int:
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024
