"""A data step on one file: rows in, rows out; unusable rows are counted and written aside, never lost or hidden."""

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from zephyr_lab.core import files
from zephyr_lab.core.row_files import default_rejected_path, is_device, iter_rows, write_rejected
from zephyr_lab.core.rows import BadRow, Row, checked
from zephyr_lab.data import pairs, schemas, splits
from zephyr_lab.data.filters import FilterCounts, Rule, counts_for, run_rules
from zephyr_lab.data.pairs import Binarisation, NoPair, Pair, binarise
from zephyr_lab.data.pairs_statistics import PairCounts, PairStatistics
from zephyr_lab.data.schemas import Dialogue

KINDS = ".jsonl, .jsonl.gz or .parquet"
Rows = Iterable[dict[str, Any]]
Read = TypeVar("Read")


def require_kind(path: Path) -> None:
    """Raises ValueError, before any work is done, for a name that says no known kind, or a folder."""
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; name a file")
    if not path.name.lower().endswith((".jsonl", ".jsonl.gz", ".parquet")) and not is_device(path):
        raise ValueError(f"cannot write {path.name!r}; allowed: {KINDS}")


def write_rows(path: Path, rows: Rows) -> int:
    """Write `rows` as they come (a .parquet file takes them all into memory) and say how many there were.

    A reader, a crash or a full disk never sees half of the file. Same rows, same bytes. Raises ValueError for another
    kind of file or columns that no parquet table holds, OSError where the disk fails; the old file then stays.
    """
    require_kind(path)
    if is_device(path):
        with path.open("wb") as stream:
            return _json_lines(stream, rows)
    with files.replacing(path) as stream:
        if path.name.lower().endswith(".parquet"):
            return _parquet(stream, rows)
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as packed:
                return _json_lines(packed, rows)
        return _json_lines(stream, rows)


def _json_lines(stream: BufferedIOBase, rows: Rows) -> int:
    count = 0
    for row in rows:
        # Tables may hold dates and bytes, which JSON has no word for.
        stream.write(json.dumps(row, ensure_ascii=False, default=str).encode("utf-8") + b"\n")
        count += 1
    return count


def _parquet(stream: BufferedIOBase, rows: Rows) -> int:
    import pyarrow
    from pyarrow.parquet import write_table

    listed = list(rows)
    names = list(dict.fromkeys(chain.from_iterable(listed)))
    try:
        table = pyarrow.table({name: [row.get(name) for row in listed] for name in names})
        write_table(table, stream)
    except pyarrow.ArrowException as error:
        raise ValueError(f"these rows make no parquet table ({' '.join(str(error).split())}); use .jsonl") from error
    return len(listed)


@dataclass(frozen=True, slots=True)
class Filtered:
    """Counts of a filtered file; `bad` rows are written to `rejected` (None where there are none)."""

    counts: FilterCounts
    bad: list[BadRow]
    rejected: Path | None


@dataclass(frozen=True, slots=True)
class Binarised:
    """Statistics of a binarised file; `bad` as in `Filtered`, rows with fewer than two scored completions included.

    `empty_answers` are completions without any text; they take part like the others.
    """

    statistics: PairStatistics
    empty_answers: int
    bad: list[BadRow]
    rejected: Path | None


def filter_dialogues(
    file: Path,
    rules: Sequence[Rule],
    *,
    out: Path | None = None,
    rejected: Path | None = None,
    messages: bool = False,
) -> Filtered:
    """Filter the dialogues of `file`; kept rows go to `out`, all their columns unchanged but for repaired texts.

    messages: they are written as {"messages": ...} instead, which is what training reads; a row that no training could
    learn from (no answer, a blank question) is a bad one then.

    Raises ValueError where no row is a dialogue (the rows are written aside all the same, `out` is not), for an `out`
    or `rejected` that cannot be, and as `iter_rows` does.
    """
    aside = _Aside(file, rejected, "filter")
    _require_apart(file, out, aside.path)
    counts = counts_for(rules)

    def kept() -> Iterator[dict[str, Any]]:
        dialogues = aside.without_bad(checked(iter_rows(file), _to_learn_from if messages else schemas.dialogue))
        for verdict in run_rules(dialogues, rules):
            counts.add(verdict)
            if verdict.kept:
                yield (_messages_row if messages else schemas.dialogue_row)(verdict.dialogue, verdict.texts)
        aside.finish(usable=counts.rows, what="dialogue")

    _write(kept(), out)
    counts.rows += len(aside.bad)
    return Filtered(counts, aside.bad, aside.written)


def binarise_completions(
    file: Path, how: Binarisation, *, seed: int, out: Path | None = None, rejected: Path | None = None
) -> Binarised:
    """Make pairs of the scored completions of `file`; they go to `out` in H4's layout. Raises as `filter_dialogues`.

    A row whose completions cannot make a pair (one only, or no scores) is a bad row; one whose scores leave nothing
    to reject is not, and makes no pair.
    """
    aside = _Aside(file, rejected, "binarise")
    _require_apart(file, out, aside.path)
    counts = PairCounts()
    empty = 0

    def paired() -> Iterator[dict[str, Any]]:
        nonlocal empty
        usable = 0
        prompts = aside.without_bad(schemas.scored_prompts(iter_rows(file)))
        for outcome in binarise(prompts, how, seed=seed):
            counts.add(outcome)
            empty += sum(not completion.response.strip() for completion in outcome.prompt.completions)
            if isinstance(outcome, NoPair) and outcome.column is not None:
                aside.bad.append(outcome.prompt.row.refused(outcome.column, outcome.problem))
                continue
            usable += 1
            if isinstance(outcome, Pair):
                yield pairs.pair_row(outcome)
        counts.unread = len(aside.bad) - (counts.prompts - usable)
        aside.finish(usable=usable, what="prompt with two scored completions")

    _write(paired(), out)
    return Binarised(counts.statistics(), empty, aside.bad, aside.written)


def _to_learn_from(row: Row) -> Dialogue:
    splits.talk(row)
    return schemas.dialogue(row)


def _messages_row(dialogue: Dialogue, texts: dict[int, str]) -> dict[str, Any]:
    """The dialogue in the layout that training reads; `texts` replace the messages at their places."""
    said = (replace(one, content=texts.get(place, one.content)) for place, one in enumerate(dialogue.messages))
    return {"messages": schemas.message_list(tuple(said))}


class _Aside:
    """Bad rows of a file, collected on the way and written out at the end."""

    def __init__(self, file: Path, rejected: Path | None, command: str) -> None:
        self._file = file
        self.path = rejected or default_rejected_path(file, command)
        self.bad: list[BadRow] = []
        self.written: Path | None = None

    def without_bad(self, items: Iterable[Read | BadRow]) -> Iterator[Read]:
        for item in items:
            if isinstance(item, BadRow):
                self.bad.append(item)
            else:
                yield item

    def finish(self, *, usable: int, what: str) -> None:
        """Write the bad rows in the file's order. Raises ValueError where no row is usable."""
        self.bad.sort(key=lambda row: row.row)
        if self.bad:
            write_rejected(self.bad, self.path)
            self.written = self.path
        if not usable:
            raise ValueError(
                f"no usable {what} in {self._file.name!r}: all {len(self.bad)} rows are refused (written to "
                f"{self.path}); {self.bad[0] if self.bad else ''}"
            )


def _write(rows: Iterable[dict[str, Any]], out: Path | None) -> None:
    if out is not None:
        write_rows(out, rows)
        return
    for _ in rows:
        pass


def _require_apart(file: Path, out: Path | None, rejected: Path) -> None:
    """Raises ValueError where two of the three are one file, or `out` is of no known kind: before any work is done."""
    if out is not None:
        require_kind(out)
    paths = {"the input": file, "--out": out, "the file of rejected rows": rejected}
    seen: dict[Path, str] = {}
    for name, path in paths.items():
        if path is None or (path.exists() and not path.is_file()):
            continue
        if (other := seen.setdefault(path.resolve(), name)) != name:
            raise ValueError(f"{name} and {other} are one file, {str(path)!r}; choose another name")
