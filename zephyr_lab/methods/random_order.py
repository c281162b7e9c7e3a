"""Rows in plain random order, the same after a kill: seed and epoch alone decide."""

import random
from collections.abc import Iterator

from torch.utils.data import Sampler

from zephyr_lab.core.seeds import derive


class RandomOrder(Sampler[int]):
    """Row numbers 0 to rows - 1 in random order, another in each epoch.

    For data of two kinds: batches of like lengths (`trl_adapters.LengthBuckets`) would be all of one kind.
    """

    def __init__(self, rows: int, *, seed: int) -> None:
        self._rows = rows
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        order = list(range(self._rows))
        random.Random(derive(self._seed, "order", self._epoch)).shuffle(order)
        return iter(order)
