"""Where rows come from: the embedded world, a file or folder in a hub's layout, or a set on the hub itself.

A source has named splits and gives the rows of each, good and bad; what a row must hold is checked by
`zephyr_lab.data.schemas`. The hub's own library is only touched by `zephyr_lab.data.hub`, and only when asked for.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.core.rows import BadRow, Row, Rows
from zephyr_lab.core.seeds import derive
from zephyr_lab.world import completions, dialogues

Read = TypeVar("Read")
_KINDS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".arrow")
# train_sft-00000-of-00003.parquet, with the hash that older versions appended; train.jsonl; test_prefs.json.gz
_SHARD = re.compile(
    r"(?P<split>\w[\w.]*?)(?:-\d{5}-of-\d{5}(?:-[0-9a-f]+)?)?(?:\.jsonl|\.json|\.parquet|\.arrow)(?:\.gz)?"
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@runtime_checkable
class Source(Protocol):
    """A set of rows in named splits."""

    @property
    def name(self) -> str: ...

    def splits(self) -> tuple[str, ...]: ...

    def rows(self, split: str) -> Iterator[Row | BadRow]:
        """The rows of a split, in order. Raises ValueError for a split that the source lacks."""
        ...


@dataclass(frozen=True)
class World:
    """The embedded world as a source: `kind` "dialogues" (UltraChat's schema) or "completions" (UltraFeedback's).

    `counts` says how many rows each split has; every split has a seed of its own, derived from `seed`. `options` go
    to the generator (`zephyr_lab.world`). Same arguments, same rows.
    """

    kind: str
    counts: Mapping[str, int]
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in _WORLD:
            raise ValueError(f"the world makes no {self.kind!r}; allowed: {', '.join(_WORLD)}")

    @property
    def name(self) -> str:
        return f"world {self.kind}"

    def splits(self) -> tuple[str, ...]:
        return tuple(self.counts)

    def rows(self, split: str) -> Iterator[Row | BadRow]:
        made = _WORLD[self.kind](derive(self.seed, split), self.counts[_known(self, split)], **self.options)
        return (Row(number, row) for number, row in enumerate(made.rows, start=1))


@dataclass(frozen=True)
class File:
    """One file of rows (see `iter_rows`) with the single split "train"."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def splits(self) -> tuple[str, ...]:
        return ("train",)

    def rows(self, split: str) -> Iterator[Row | BadRow]:
        _known(self, split)
        return iter_rows(self.path)


@dataclass(frozen=True)
class Folder:
    """A folder as the hub lays it out, or as `datasets` saves it: one file or several shards a split.

    Found are <split>.jsonl, data/<split>-00000-of-00002.parquet and their like, and the .arrow shards that
    `save_to_disk` puts into one folder a split.
    """

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def splits(self) -> tuple[str, ...]:
        return tuple(self._shards())

    def rows(self, split: str) -> Iterator[Row | BadRow]:
        shards = self._shards()[_known(self, split)]
        return (row for shard in shards for row in _named(_shard_rows(shard), shard.relative_to(self.path)))

    def _shards(self) -> dict[str, list[Path]]:
        """Files of each split. Raises FileNotFoundError without the folder, ValueError without any such file."""
        if not self.path.is_dir():
            raise FileNotFoundError(f"no folder {str(self.path)!r}")
        found: dict[str, list[Path]] = {}
        for file in sorted([*self.path.glob("*"), *self.path.glob("*/*")]):
            if not file.name.lower().endswith(_KINDS) or file.name in _NOT_ROWS or file.name.startswith("."):
                continue
            if match := _SHARD.fullmatch(file.name):
                # data-00000-of-00001.arrow lies in a folder named like its split
                split = file.parent.name if match["split"] == "data" and file.parent != self.path else match["split"]
                found.setdefault(split, []).append(file)
        if not found:
            raise ValueError(f"folder {str(self.path)!r} holds no rows; looked for *{', *'.join(_KINDS)}")
        return found


def open_source(where: str | Path, *, network: bool = False) -> Source:
    """The source behind a file, a folder, or a hub id such as HuggingFaceH4/ultrachat_200k.

    A hub id is only followed with `network=True`. Raises FileNotFoundError or ValueError, saying the next step.
    """
    path = Path(where)
    if path.is_dir():
        return Folder(path)
    if path.exists():
        return File(path)
    if isinstance(where, Path) or not _HUB_ID.fullmatch(where) or where.lower().endswith(_KINDS):
        raise FileNotFoundError(f"no file or folder {str(where)!r}")
    if not network:
        raise ValueError(
            f"{where!r} is no file or folder; as a hub id it needs the network, which is used only when asked for "
            "(network=True), or a folder that holds a copy of it"
        )
    from zephyr_lab.data.hub import Hub

    return Hub(where)


def usable(source: Source, split: str, read: Callable[[Row], Read]) -> tuple[list[Read], list[BadRow]]:
    """The rows of a split as `read` (of `schemas`) understands them, and the bad ones.

    Raises ValueError where no row is usable, naming the first problem.
    """
    rows = Rows.of(source.rows(split), read)
    if not rows.good:
        first = f": {rows.bad[0]}" if rows.bad else ""
        raise ValueError(f"no usable row in split {split!r} of {source.name} ({len(rows.bad)} read){first}")
    return rows.good, rows.bad


_WORLD: dict[str, Callable[..., Any]] = {"dialogues": dialogues.dialogues, "completions": completions.completions}
_NOT_ROWS = frozenset({"dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json"})


def _known(source: Source, split: str) -> str:
    if split not in source.splits():
        raise ValueError(f"{source.name} has no split {split!r}; it has {', '.join(source.splits())}")
    return split


def _named(rows: Iterator[Row | BadRow], file: Path) -> Iterator[Row | BadRow]:
    """Rows that say which file of the folder they stand in."""
    return (dataclasses.replace(row, file=file.as_posix()) for row in rows)


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
        yield BadRow(number + 1, None, f"the file cannot be read from here: {' '.join(str(error).split())[:200]}", "")
