"""What a teacher said about a data set, kept on disk row by row: hidden states (exact) or its likeliest entries.

Hidden states of answer positions take hidden * 2 bytes a token in bfloat16 and are exact up to that rounding (none in
the teacher's own dtype); the teacher then shrinks to its head. A sparse cache (`losses.fast.sparse_kd_head`) is smaller
and biased. Read by memory map: a batch costs its own rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zephyr_lab.core import files

INDEX = "cache.json"


@dataclass(frozen=True, slots=True)
class TeacherCache:
    """Named tensors (token, width) of all rows, one after the other, and where each row begins."""

    tensors: dict[str, Tensor]
    offsets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """The tensors of some rows, one after the other in the order asked for. Raises IndexError past the rows."""
        for number in numbers:
            if not 0 <= number < len(self):
                raise IndexError(f"the cache has rows 0 to {len(self) - 1}, not {number}")
        spans = [slice(self.offsets[number], self.offsets[number + 1]) for number in numbers]
        return {name: torch.cat([tensor[span] for span in spans]) for name, tensor in self.tensors.items()}


def write(folder: Path, rows: Iterable[Mapping[str, Tensor]], *, about: Mapping[str, Any]) -> None:
    """Write rows of named tensors (token, width) as they come: memory holds one row. `about` says whose they are.

    The index comes last: a cache without it is unfinished. Raises ValueError for rows of unlike names, widths, dtypes
    or numbers of tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    shapes: dict[str, dict[str, Any]] = {}
    offsets = [0]
    streams = {}
    try:
        for number, row in enumerate(rows):
            found = {name: {"width": one.shape[1], "dtype": str(one.dtype)} for name, one in row.items()}
            if number == 0:
                shapes = found
                streams = {name: (folder / f"{name}.bin").open("wb") for name in row}
            if found != shapes or len({len(one) for one in row.values()}) != 1:
                raise ValueError(f"row {number} holds {found}, the first {shapes}; or its tensors differ in length")
            for name, one in row.items():
                streams[name].write(one.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
            offsets.append(offsets[-1] + len(next(iter(row.values()))))
    finally:
        for stream in streams.values():
            stream.close()
    files.write_json(folder / INDEX, {"about": dict(about), "tensors": shapes, "offsets": offsets})


def read(folder: Path, *, about: Mapping[str, Any]) -> TeacherCache:
    """The cache in `folder`, mapped. Raises FileNotFoundError if it is unfinished, ValueError if of another."""
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder.name} holds no finished cache: {INDEX} is missing; write it again")
    index = files.read_json(folder / INDEX)
    if index["about"] != dict(about):
        raise ValueError(f"the cache in {folder.name} is of {index['about']}, asked for is {dict(about)}")
    tokens = index["offsets"][-1]
    tensors = {}
    for name, shape in index["tensors"].items():
        dtype = getattr(torch, shape["dtype"].removeprefix("torch."))
        mapped = torch.from_file(
            str(folder / f"{name}.bin"), shared=False, size=tokens * shape["width"], dtype=dtype
        )  # private: nothing written into it reaches the file
        tensors[name] = mapped.view(tokens, shape["width"])
    return TeacherCache(tensors, tuple(index["offsets"]))
