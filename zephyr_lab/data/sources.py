"""A folder of rows in a hub's layout, and the usable rows of a source: of `Folder`, or of `data.hub.Hub`."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.core.rows import BadRow, Row, Rows, one_line

Read = TypeVar("Read")
_KINDS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".arrow")
# train_sft-00000-of-00003.parquet, with the hash that older versions appended; train.jsonl; test_prefs.json.gz
_SHARD = re.compile(
    r"(?P<split>\w[\w.]*?)(?:-\d{5}-of-\d{5}(?:-[0-9a-f]+)?)?(?:\.jsonl|\.json|\.parquet|\.arrow)(?:\.gz)?"
)
_NOT_ROWS = frozenset({"dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json"})


@runtime_checkable
class Source(Protocol):
    """A set of rows in named splits."""

    @property
    def name(self) -> str: ...

    def rows(self, split: str) -> Iterator[Row | BadRow]:
        """The rows of a split, in order. Raises ValueError for a split that the source lacks."""
        ...


@dataclass(frozen=True)
class Folder:
    """A folder as the hub lays it out, or as `datasets` saves it: one file or several shards a split.

    Read are <split>.jsonl, data/<split>-00000-of-00002.parquet and their like, and the .arrow shards that
    `save_to_disk` puts into one folder a split.
    """

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def splits(self) -> tuple[str, ...]:
        return tuple(self._shards())

    def rows(self, split: str) -> Iterator[Row | BadRow]:
        """The rows of a split, each with the file that holds it. Raises ValueError for a split that is not there."""
        shards = self._shards()
        if split not in shards:
            raise ValueError(f"{self.name} has no split {split!r}; it has {', '.join(shards)}")
        return (
            dataclasses.replace(row, file=shard.relative_to(self.path).as_posix())
            for shard in shards[split]
            for row in _shard_rows(shard)
        )

    def _shards(self) -> dict[str, list[Path]]:
        """Files of each split. Raises FileNotFoundError without the folder, ValueError without any such file."""
        if not self.path.is_dir():
            raise FileNotFoundError(f"no folder {str(self.path)!r}")
        shards: dict[str, list[Path]] = {}
        for file in sorted([*self.path.glob("*"), *self.path.glob("*/*")]):
            if not file.name.lower().endswith(_KINDS) or file.name in _NOT_ROWS or file.name.startswith("."):
                continue
            if match := _SHARD.fullmatch(file.name):
                # data-00000-of-00001.arrow lies in a folder named like its split
                split = file.parent.name if match["split"] == "data" and file.parent != self.path else match["split"]
                shards.setdefault(split, []).append(file)
        if not shards:
            raise ValueError(f"folder {str(self.path)!r} holds no rows; looked for *{', *'.join(_KINDS)}")
        return shards


def usable(source: Source, split: str, read: Callable[[Row], Read]) -> tuple[list[Read], list[BadRow]]:
    """The rows of a split as `read` (of `schemas`) understands them, and the bad ones.

    Raises ValueError where no row is usable, naming the first problem.
    """
    rows = Rows.of(source.rows(split), read)
    if not rows.good:
        first = f": {rows.bad[0]}" if rows.bad else ""
        raise ValueError(f"no usable row in split {split!r} of {source.name} ({len(rows.bad)} read){first}")
    return rows.good, rows.bad


def _shard_rows(shard: Path) -> Iterator[Row | BadRow]:
    """The rows of one file of several; one that cannot be read at all is one bad row, and the others stay."""
    if shard.suffix == ".arrow":
        yield from _arrow_rows(shard)
        return
    try:
        yield from iter_rows(shard)
    except (ValueError, OSError) as error:
        yield BadRow(1, None, " ".join(str(error).split()), "")


def _arrow_rows(shard: Path) -> Iterator[Row | BadRow]:
    """Rows of a shard written by `save_to_disk`; a part that cannot be read is one bad row, and the last."""
    import pyarrow

    number = 0
    try:
        with pyarrow.OSFile(str(shard)) as file, pyarrow.ipc.open_stream(file) as batches:
            for batch in batches:
                for record in batch.to_pylist():
                    number += 1
                    yield Row(number, record)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        yield BadRow(number + 1, None, f"the file cannot be read from here: {one_line(error)}", "")
