"""A data step on one file: rows in, rows out, the unusable ones counted and written aside, never lost or hidden."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from zephyr_lab.core.row_types import BadRow, checked
from zephyr_lab.core.rows import default_rejected_path, iter_rows, write_rejected
from zephyr_lab.data import layouts, long_tables, schemas
from zephyr_lab.data.filters import FilterCounts, Rule, counts_for, run_rules
from zephyr_lab.data.pairs import Binarisation, NoPair, Pair, binarise
from zephyr_lab.data.pairs_statistics import PairCounts, PairStatistics
from zephyr_lab.data.writing import require_kind, write_rows

Read = TypeVar("Read")


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
    file: Path, rules: Sequence[Rule], *, out: Path | None = None, rejected: Path | None = None
) -> Filtered:
    """Filter the dialogues of `file`; kept rows go to `out`, all their columns unchanged but for repaired texts.

    Raises ValueError where no row is a dialogue (the rows are written aside all the same, `out` is not), for an `out`
    or `rejected` that cannot be, and as `iter_rows` does.
    """
    aside = _Aside(file, rejected, "filter")
    _require_apart(file, out, aside.path)
    counts = counts_for(rules)

    def kept() -> Iterator[dict[str, Any]]:
        dialogues = aside.without_bad(checked(iter_rows(file), schemas.dialogue))
        for verdict in run_rules(dialogues, rules):
            counts.add(verdict)
            if verdict.kept:
                yield layouts.dialogue_row(verdict.dialogue, verdict.texts)
        aside.finish(usable=counts.rows, what="dialogue")

    _write(kept(), out)
    counts.rows += len(aside.bad)
    return Filtered(counts, aside.bad, aside.written)


def binarise_completions(
    file: Path, how: Binarisation, *, seed: int, out: Path | None = None, rejected: Path | None = None
) -> Binarised:
    """Make pairs of the scored completions of `file`; they go to `out` in H4's layout. Raises as `filter_dialogues`.

    A row whose completions cannot make a pair (one only, or no scores) is a bad row; one whose scores leave nothing
    to reject is not, and gives no pair.
    """
    aside = _Aside(file, rejected, "binarise")
    _require_apart(file, out, aside.path)
    counts = PairCounts()
    empty = 0

    def paired() -> Iterator[dict[str, Any]]:
        nonlocal empty
        usable = 0
        prompts = aside.without_bad(long_tables.scored_prompts(iter_rows(file)))
        for outcome in binarise(prompts, how, seed=seed):
            counts.add(outcome)
            empty += sum(not completion.response.strip() for completion in outcome.prompt.completions)
            if isinstance(outcome, NoPair) and outcome.column is not None:
                aside.bad.append(outcome.prompt.row.refused(outcome.column, outcome.problem))
                continue
            usable += 1
            if isinstance(outcome, Pair):
                yield layouts.pair_row(outcome)
        counts.unread = len(aside.bad) - (counts.prompts - usable)
        aside.finish(usable=usable, what="prompt with two scored completions")

    _write(paired(), out)
    return Binarised(counts.statistics(), empty, aside.bad, aside.written)


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
        """Write the bad rows in the file's order. Raises ValueError where nothing else was found."""
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
    places = {"the input": file, "--out": out, "the file of rejected rows": rejected}
    seen: dict[Path, str] = {}
    for name, path in places.items():
        if path is None or (path.exists() and not path.is_file()):
            continue
        if (other := seen.setdefault(path.resolve(), name)) != name:
            raise ValueError(f"{name} and {other} are one file, {str(path)!r}; give another name")
