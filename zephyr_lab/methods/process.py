"""What a training process sets once, before its first tensor."""

import ctypes

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc refuses more


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
