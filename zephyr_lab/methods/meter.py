"""What a training cost: CPU seconds of this process, and by how much its memory grew at the peak."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MIB = 2**20


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
