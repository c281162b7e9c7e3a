"""What the site shows, read from files: notebook runs, items with their numbers, claims, findings.

Reads `build/<profile>/` (this run) and `figures/` (committed); knows nothing of pages.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths
from zephyr_lab.reporting import claims, ledger, tables
from zephyr_lab.reporting.site import model_matrix
from zephyr_lab.scoring.intervals import Estimate

SHEET_ROWS = 40  # of a table that is shown as it is; the file is one click away
COMMITTED = "committed"  # the site's folder for the files of figures/


@dataclass(frozen=True)
class Run:
    """One executed notebook and its record."""

    name: str  # file name without ending
    path: Path
    record: dict[str, Any]

    @property
    def title(self) -> str:
        return self.record.get("title") or self.name

    @property
    def number(self) -> str:
        return self.name.partition("_")[0]


@dataclass(frozen=True)
class Number:
    """A line of a table of scores."""

    row: str
    metric: str
    kind: str
    number: Estimate
    source: str | None


@dataclass(frozen=True)
class Line:
    """A published number, the committed one and this run's, of one row, metric and kind."""

    row: str
    metric: str
    kind: str
    published: Number | None
    committed: Number | None
    ours: Number | None

    @property
    def latest(self) -> Number | None:
        """This run's number, or the committed one."""
        return self.ours or self.committed


@dataclass(frozen=True)
class Sheet:
    """The first rows of a table that is none of scores, such as samples of answers, as text. total: rows it has."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: int


@dataclass(frozen=True)
class Item:
    """A table, figure or study of the ledger, with what the site can show of it. Addresses are from the site's root."""

    described: ledger.Item
    status: str
    run: Run | None  # of the notebook that made it
    files: tuple[str, ...]
    lines: tuple[Line, ...]
    sheets: tuple[Sheet, ...]
    present: tuple[str, ...]  # kinds of number that it shows
    lacking: dict[str, str]  # what it does not, and why

    @property
    def page(self) -> str:
        return "items/" + self.described.id.replace("/", "-")

    @property
    def paper(self) -> str:
        return self.described.id.partition("/")[0]

    @property
    def figures(self) -> tuple[str, ...]:
        return tuple(name for name in self.files if name.endswith(".svg"))

    @property
    def thumbnail(self) -> str | None:
        return next((name for name in self.files if name.endswith(".png")), self.figures[0] if self.figures else None)

    @property
    def sources(self) -> list[tuple[str, str, str]]:
        """(row, kind, source) of each number that is shown, each once."""
        shown = ((line.row, one) for line in self.lines for one in (line.published, line.latest))
        return list(dict.fromkeys((row, one.kind, one.source) for row, one in shown if one and one.source))

    @property
    def is_committed(self) -> bool:
        """Whether what is shown comes from figures/, because this run has not made it."""
        return any(name.startswith(f"{COMMITTED}/") for name in self.files)


@dataclass(frozen=True)
class SiteContent:
    """Everything that the pages show of one profile. Claims are by paper, reasons by claim id."""

    profile: str
    ledger: dict[str, Any]
    committed: dict[str, Any] | None
    runs: tuple[Run, ...]
    items: tuple[Item, ...]
    claims: dict[str, tuple[claims.Claim, ...]]
    reasons: dict[str, dict[str, Any]]
    findings: tuple[dict[str, Any], ...]
    exact: tuple[dict[str, Any], ...]
    families: model_matrix.Matrix | None

    @property
    def clock_seconds(self) -> float:
        """For how long the notebooks ran, those that ran at one time counted once."""
        return clock_seconds([run.record for run in self.runs])

    @property
    def added_seconds(self) -> float:
        """The times of all notebooks together."""
        return sum(run.record["seconds"] for run in self.runs)


def collect(profile: str, stale: Iterable[str]) -> SiteContent:
    """What the site of `profile` shows, from this run and from what is committed; `stale` names notebooks."""
    finished = runs(profile)
    fragments = ledger.fragments(profile)
    by_name = {run.name: run for run in finished}
    made_by = {item["id"]: by_name.get(fragment["notebook"]) for fragment in fragments for item in fragment["items"]}
    current, committed = ledger.collect(profile, stale=stale), ledger.committed()
    old = {entry["id"]: entry["files"] for entry in (committed or {"items": []})["items"]}
    known = ledger.items()
    return SiteContent(
        profile=profile,
        ledger=current,
        committed=committed,
        runs=tuple(finished),
        items=tuple(
            _item(known[entry["id"]], entry, old.get(entry["id"], []), made_by.get(entry["id"]))
            for entry in current["items"]
        ),
        claims={paper: claims.load(paper) for paper in claims.PAPERS},
        reasons={claim["id"]: claim for fragment in fragments for claim in fragment["claims"]},
        findings=tuple(finding for fragment in fragments for finding in fragment["findings"]),
        exact=tuple(check for fragment in fragments for check in fragment["exact"]),
        families=model_matrix.read(),
    )


def runs(profile: str) -> list[Run]:
    """Executed notebooks that finished: those with a record beside them, in the order of their numbers."""
    folder = paths.build_dir(profile) / "notebooks"
    executed = [folder / source.name for source in sorted(paths.notebooks_dir().glob("*.ipynb"))]
    pairs = [(path, path.with_suffix(".run.json")) for path in executed]
    return [
        Run(path.stem, path, files.read_json(record)) for path, record in pairs if path.is_file() and record.is_file()
    ]


def clock_seconds(records: Iterable[Mapping[str, Any]]) -> float:
    """For how long at least one of these runs was going on: runs at one time count once, pauses between them do not."""
    total, until = 0.0, 0.0
    for start, end in sorted((record["finished"] - record["seconds"], record["finished"]) for record in records):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def numbers(path: Path) -> list[Number]:
    """A tidy frame from its CSV file; empty for an absent file, and for one that is no table of scores."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader) if _is_tidy(reader.fieldnames) else []
    return [
        Number(row["row"], row["metric"], row["kind"], tables.estimate(row), row.get("source") or None) for row in rows
    ]


def sheet(path: Path) -> Sheet | None:
    """A CSV file that is no table of scores, cut to `SHEET_ROWS`; None for one that is, and for an absent file."""
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    if _is_tidy(header):
        return None
    return Sheet(path.name, tuple(header), tuple(map(tuple, rows[:SHEET_ROWS])), len(rows))


def beside(committed: Iterable[Number], ours: Iterable[Number]) -> list[Line]:
    """Published | committed | this run, one line for each row, metric and kind, in the order of first appearance.

    Published values come from either frame; a published value that nothing of ours answers has a line of its own,
    of kind "quoted".
    """
    old, new = ({(one.row, one.metric, one.kind): one for one in side} for side in (committed, ours))
    quoted = {key[:2]: number for key, number in (old | new).items() if key[2] == "quoted"}
    answered = {key[:2] for key in [*old, *new] if key[2] != "quoted"}
    wanted = dict.fromkeys(key for key in [*new, *old] if key[2] != "quoted" or key[:2] not in answered)
    return [
        Line(*key, quoted.get(key[:2]), *((side.get(key) if key[2] != "quoted" else None) for side in (old, new)))
        for key in wanted
    ]


def address(name: str) -> str:
    """Where the site keeps a file of the ledger: build/tiny/figures/a.svg in figures/, figures/a.svg in committed/."""
    if name.startswith("build/"):
        return name.split("/", 2)[2]
    return f"{COMMITTED}/{name.removeprefix('figures/')}"


def _item(described: ledger.Item, entry: dict[str, Any], committed: list[str], run: Run | None) -> Item:
    def tables_of(names: list[str]) -> list[Path]:
        return [paths.project_root() / name for name in names if name.endswith(".csv")]

    ours = tables_of([name for name in entry["files"] if name.startswith("build/")])
    old, new = ([one for path in side for one in numbers(path)] for side in (tables_of(committed), ours))
    return Item(
        described=described,
        status=entry["status"],
        run=run,
        files=tuple(address(name) for name in entry["files"]),
        lines=tuple(beside(old, new)),
        sheets=tuple(filter(None, map(sheet, tables_of(entry["files"])))),
        present=tuple(entry["present"]),
        lacking=entry["lacking"],
    )


def _is_tidy(header: Sequence[str] | None) -> bool:
    return {"row", "metric", "kind", "value"} <= set(header or ())
