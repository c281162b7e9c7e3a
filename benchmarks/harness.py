"""How the benchmarks measure: CPU seconds of interleaved contenders, allocator peaks, the GEMM floor, gates.

Contenders take turns in one process, so that a neighbour on the machine disturbs them alike, and the least of some
rounds counts. Peaks are torch's own allocations above the level at entry, gradients included: resident memory says
little once malloc keeps what was freed. All run with malloc told to keep large blocks and with one torch thread.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.report import Report, table

# glibc hands large blocks back to the kernel at each free: a fresh float32 then costs 1.3 ns instead of 0.12.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "16000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "KINETO_LOG_LEVEL": "6",
}

Call = Callable[[], object]
Seconds = dict[str, tuple[float, ...]]  # by contender, one number a round


def main(measure: Callable[[], Report]) -> int:
    """Measure and print, as JSON with `--json`; 0 where all gates hold, 1 where one does not, 2 for a wrong option."""
    unknown = [option for option in sys.argv[1:] if option != "--json"]
    if unknown:
        print(f"unknown option {unknown[0]!r}; known: --json", file=sys.stderr)
        return 2
    tune_malloc()
    torch.set_num_threads(1)
    report = measure()
    print(json.dumps(report.to_json(), indent=1) if "--json" in sys.argv else table(report))
    return 0 if report.holds else 1


def tune_malloc() -> None:
    """Start this very command again with `ENVIRONMENT`, unless it has it: glibc reads it at a process's start."""
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ENVIRONMENT)


def interleaved(contenders: Mapping[str, Call], *, rounds: int, warm_up: int = 1) -> Seconds:
    """CPU seconds of each call in each round; the contenders take turns, and `warm_up` rounds are not counted.

    A call that leaves gradients behind must clear those of the call before it, so that each round does the same.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, call in contenders.items():
            began = time.process_time()
            call()
            if number >= warm_up:
                seconds[name].append(time.process_time() - began)
    return {name: tuple(found) for name, found in seconds.items()}


def peak_bytes(call: Call) -> int:
    """The most that torch held at once during `call` above what it held before, in bytes, results included.

    Before: at its lowest, so that gradients of an earlier call, which a call clears first, are not taken off.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        kept = call()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    del kept  # until here, so that what the call returns counts as held
    level = lowest = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        lowest = min(lowest, level)
        peak = max(peak, level - lowest)
    return peak


def gemm_floor(shapes: Iterable[tuple[int, int, int]], *, dtype: torch.dtype = torch.float32, rounds: int = 3) -> float:
    """CPU seconds of bare matrix products (m, k) @ (k, n), the least of `rounds` each, summed over `shapes`."""
    counts: dict[tuple[int, int, int], int] = {}
    for shape in shapes:
        counts[shape] = counts.get(shape, 0) + 1
    total = 0.0
    for (m, k, n), count in counts.items():
        left, right, out = (torch.randn(size, dtype=dtype) for size in ((m, k), (k, n), (m, n)))
        product = interleaved({"product": lambda a=left, b=right, c=out: torch.mm(a, b, out=c)}, rounds=rounds)
        total += count * min(product["product"])
    return total


def gradient_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest |found - expected| of a tensor over its largest |expected|, or 1 where that is 0; the worst tensor's."""
    worst = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        if ours.shape != theirs.shape:
            raise ValueError(f"gradients differ in shape: {tuple(ours.shape)} and {tuple(theirs.shape)}")
        difference, largest = (ours.double() - theirs.double()).abs().max(), theirs.double().abs().max()
        error = difference / largest if largest > 0 else difference
        worst = max(worst, float("inf") if error.isnan() else error.item())
    return worst


def gradients(parameters: Iterable[Tensor], call: Call) -> list[Tensor]:
    """The gradients that `call` leaves on `parameters`, zeros where it leaves none; they are taken off again."""
    parameters = list(parameters)
    clear(parameters)
    call()
    found = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    clear(parameters)
    return found


def clear(parameters: Iterable[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None
