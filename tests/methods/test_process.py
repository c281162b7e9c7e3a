"""The meter counts CPU time and memory of its block, and no more."""

import mmap

import torch

from zephyr_lab.methods.process import metered


def test_work_takes_time_and_sleep_does_not():
    with metered() as idle:
        pass
    with metered() as busy:
        sum(range(2_000_000))
    assert busy.cpu_seconds > 10 * idle.cpu_seconds


def test_a_block_of_known_size_is_seen():
    with metered() as small:
        torch.zeros(1)
    with metered() as large:
        pages = mmap.mmap(-1, 32 * 2**20)  # fresh ones: malloc may hand out what other tests have freed
        torch.frombuffer(pages, dtype=torch.uint8).fill_(1)
    assert large.peak_mib - small.peak_mib > 30  # of 32 MiB
