"""What the papers published, as typed values with their sources: papers/<paper>/published.yaml.

`table` gives the tidy frame that goes beside ours, `fact` one checked value, `source` says where a number is from.
Reading a file registers it with the running notebook, so that a changed value makes its figures stale.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import pandas as pd
import yaml
from scipy.special import stdtrit

from zephyr_lab.core import paths, session
from zephyr_lab.core.settings import from_table
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.intervals import Estimate, Interval

Confidence = Literal["verified", "quoted", "recalled"]
ROLES = ("label", "value", "error", "spread", "count")
ENTRY_SECTIONS = ("equations", "data", "evaluation", "implementation")
NORMAL_95 = 1.96  # what a published standard error is multiplied with

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: ten times faster

Keyed = TypeVar("Keyed")


@dataclass(frozen=True)
class Paper:
    key: str
    title: str
    authors: tuple[str, ...] = ()
    title_in_repository: str | None = None
    affiliation: str | None = None
    year: int | None = None
    submitted: str | None = None
    arxiv: str | None = None
    pages: int | None = None
    venue: str | None = None
    code: str | None = None
    models: Mapping[str, object] | None = None
    licences: Mapping[str, object] | None = None
    status: str | None = None


@dataclass(frozen=True)
class Source:
    """What a short key such as "P" or "AE" means."""

    key: str
    what: str


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A printed column; an error (standard error), spread (standard deviation) or count belongs to the column `of`."""

    name: str
    role: str = "value"
    unit: str | None = None
    of: str | None = None


@dataclass(frozen=True)
class Exhibit:
    """A table, figure or log as published. `rows` follow `columns`; a figure without readable values has neither.

    `printed` is its name in print ("Table 1"); `row` names the label columns that distinguish rows.
    """

    id: str
    printed: str
    caption: str
    source: str
    confidence: Confidence
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()
    row: tuple[str, ...] = ()
    summary: Mapping[str, object] | None = None
    axes: tuple[str, ...] = ()
    unit: str | None = None
    text_reading: str | None = None
    stand_in: str | None = None
    accuracy: str | None = None
    note: str | None = None
    missing: str | None = None

    def labels(self) -> list[str]:
        """One name a row: its first label column, with further label columns where rows share the name."""
        naming = self.row or tuple(column.name for column in self.columns if column.role == "label")
        places = [self.place(name) for name in naming]
        names = [str(row[places[0]]) for row in self.rows]
        for place in places[1:]:
            shared = {name for name in names if names.count(name) > 1}
            names = [
                f"{name} {row[place]}" if name in shared and row[place] is not None else name
                for name, row in zip(names, self.rows, strict=True)
            ]
        return names

    def place(self, column: str) -> int:
        """Raises ValueError naming the columns for a name that is not one."""
        names = [known.name for known in self.columns]
        if column not in names:
            raise ValueError(f"{self.id} has no column {column!r}; known: {', '.join(names) or 'none (no values)'}")
        return names.index(column)

    def companion(self, row: tuple[object, ...], column: str, role: str) -> float | None:
        """The error, spread or count of `column` in `row`, if it is printed."""
        places = [place for place, known in enumerate(self.columns) if known.of == column and known.role == role]
        return None if not places or row[places[0]] is None else float(row[places[0]])  # type: ignore[arg-type]


@dataclass(frozen=True)
class Entry:
    """A piece of prose with named values: an equation, a data set, an evaluation, a piece of their code."""

    id: str
    text: str
    source: str
    confidence: Confidence
    values: Mapping[str, object] | None = None
    missing: str | None = None


@dataclass(frozen=True)
class Recipe:
    id: str
    stage: str
    settings: Mapping[str, object]
    source: str
    confidence: Confidence
    missing: str | None = None


@dataclass(frozen=True)
class Conflict:
    """A place where texts, code, cards or logs disagree; `says` quotes each, `ruling` is what is used here."""

    topic: str
    says: Mapping[str, object] | None = None
    text: str | None = None
    ruling: str | None = None


@dataclass(frozen=True)
class Fact:
    """One checked value; None: looked for in the source and not there."""

    key: str
    value: object
    source: str
    confidence: Confidence
    note: str | None = None


@dataclass(frozen=True)
class Document:
    id: str
    what: str
    verdict: str


@dataclass(frozen=True)
class Published:
    """All of one paper's published.yaml, each section by id or key."""

    paper: Paper
    confidence_scale: Mapping[str, object]
    sources: Mapping[str, Source]
    exhibits: Mapping[str, Exhibit]
    entries: Mapping[str, Entry]
    recipes: Mapping[str, Recipe]
    facts: Mapping[str, Fact]
    documents: Mapping[str, Document]
    conflicts: tuple[Conflict, ...]
    notes: tuple[str, ...]


def parse(raw: Mapping[str, Any], where: str) -> Published:
    """The content of one YAML file as dataclasses.

    Raises ValueError or TypeError naming file, section and entry for an unknown or missing key, a value of another
    type, a row of another length than its columns, two entries of one name, or an unknown confidence.
    """
    sections = {"paper", "confidence_scale", "sources", "tables", "figures", "recipes", "facts", "documents"}
    sections |= {"conflicts", "notes", *ENTRY_SECTIONS}
    unknown = sorted(set(raw) - sections)
    if unknown:
        raise ValueError(f"{where}: unknown section {unknown[0]!r}; known: {', '.join(sorted(sections))}")

    def each(section: str, cls: type[Keyed]) -> list[Keyed]:
        return [from_table(item, cls, f"{where} {section}[{n}]") for n, item in enumerate(raw.get(section, []))]

    exhibits = each("tables", Exhibit) + each("figures", Exhibit)
    for exhibit in exhibits:
        _require_consistent(exhibit, f"{where} {exhibit.id}")
    entries = [entry for section in ENTRY_SECTIONS for entry in each(section, Entry)]
    return Published(
        paper=from_table(raw["paper"], Paper, f"{where} paper"),
        confidence_scale=raw.get("confidence_scale", {}),
        sources=_by("key", each("sources", Source), where),
        exhibits=_by("id", exhibits, where),
        entries=_by("id", entries, where),
        recipes=_by("id", each("recipes", Recipe), where),
        facts=_by("key", each("facts", Fact), where),
        documents=_by("id", each("documents", Document), where),
        conflicts=tuple(each("conflicts", Conflict)),
        notes=tuple(raw.get("notes", ())),
    )


def source_keys(text: str, sources: Iterable[str]) -> list[str]:
    """The keys of `sources` that a source line names, in its order ("P section A.1, UF" -> P, UF, not A)."""
    matches = {key: re.search(rf"(?<![\w.]){re.escape(key)}(?![\w]|\.\d)", text) for key in sources}
    starts = {key: match.start() for key, match in matches.items() if match}
    return sorted(starts, key=lambda key: starts[key])


def _require_consistent(exhibit: Exhibit, where: str) -> None:
    """Raises ValueError where roles, columns and rows of an exhibit do not go together."""
    names = [column.name for column in exhibit.columns]
    for column in exhibit.columns:
        if column.role not in ROLES:
            raise ValueError(f"{where}: column {column.name!r} has role {column.role!r}; known: {', '.join(ROLES)}")
        if column.of is not None and column.of not in names:
            raise ValueError(f"{where}: column {column.name!r} belongs to {column.of!r}; known: {', '.join(names)}")
    for row in exhibit.rows:
        if len(row) != len(names):
            raise ValueError(f"{where}: row {row[:1]} has {len(row)} cells for {len(names)} columns")
    if exhibit.rows and len(set(exhibit.labels())) < len(exhibit.rows):
        raise ValueError(f"{where}: rows share a name: {', '.join(exhibit.labels())}")


def _by(name: str, items: list[Keyed], where: str) -> dict[str, Keyed]:
    keyed = {getattr(item, name): item for item in items}
    if len(keyed) < len(items):
        names = [getattr(item, name) for item in items]
        duplicate = next(one for one in names if names.count(one) > 1)
        raise ValueError(f"{where}: duplicate {name} {duplicate!r}; give one of them another")
    return keyed


@dataclass(frozen=True)
class Origin:
    """Where a published value is from: its name in print, its source line, what the keys in it mean, how sure it is."""

    what: str
    printed: str
    source: str
    keys: dict[str, str]
    confidence: str
    note: str | None

    def __str__(self) -> str:
        lines = [f"{self.what}: {self.printed}", f"  source: {self.source} ({self.confidence})"]
        lines += [f"  {key}: {meaning}" for key, meaning in self.keys.items()]
        return "\n".join(lines + ([f"  note: {self.note}"] if self.note else []))


def papers() -> list[str]:
    """Papers with published values, in alphabetical order."""
    return sorted(path.parent.name for path in paths.papers_dir().glob("*/published.yaml"))


def load(paper: str) -> Published:
    """All published values of `paper`.

    Raises ValueError for an unknown paper, and for a file that breaks the schema (TypeError: an ill-typed value).
    """
    path = paths.papers_dir() / paper / "published.yaml"
    if not path.is_file():
        raise ValueError(f"no published values of a paper named {paper!r}; known: {', '.join(papers())}")
    session.read_file(path, name=f"papers/{paper}/published.yaml")
    stat = path.stat()
    return _parse(path, stat.st_mtime_ns, stat.st_size)


def exhibit(paper: str, name: str) -> Exhibit:
    """The table, figure or log `name` ("tab1", "fig1", "beta_log"). Raises ValueError naming those that exist."""
    return _named(load(paper).exhibits, name, f"table or figure of {paper}")


def table(paper: str, name: str) -> pd.DataFrame:
    """The tidy frame of a published table: one row a printed number, kind "quoted".

    Cells that print nothing are left out. `low` and `high` come from a printed standard error x 1.96, or from a printed
    standard deviation over n runs by the t distribution; null where neither is printed.
    """
    shown = exhibit(paper, name)
    return tables.frame(
        tables.line(
            label, column.name, "quoted", _estimate(shown, row, column.name, float(value)), source=shown.printed
        )
        for label, row in zip(shown.labels(), shown.rows, strict=True)
        for column, value in zip(shown.columns, row, strict=True)
        if column.role == "value" and value is not None
    )


def wide(paper: str, name: str) -> pd.DataFrame:
    """A published table or log as printed: its own columns, one row a printed row."""
    shown = exhibit(paper, name)
    return pd.DataFrame(list(shown.rows), columns=[column.name for column in shown.columns])


def cell(paper: str, name: str, row: str, column: str) -> Any:
    """One printed number, None where nothing is printed. Raises ValueError for an unknown row or column."""
    shown = exhibit(paper, name)
    labels = shown.labels()
    if row not in labels:
        raise ValueError(f"{paper}/{name} has no row {row!r}; known: {', '.join(labels)}")
    return shown.rows[labels.index(row)][shown.place(column)]


def fact(paper: str, key: str) -> Fact:
    """One checked value with its source. Raises ValueError naming the known keys of the same group."""
    facts = load(paper).facts
    if key not in facts:
        group = key.partition(".")[0]
        near = [known for known in facts if known.partition(".")[0] == group] or list(facts)
        raise ValueError(f"no fact named {key!r} in papers/{paper}/published.yaml; known: {', '.join(near)}")
    return facts[key]


def recipe(paper: str, name: str) -> Recipe:
    """A published recipe, its settings by name. Raises ValueError naming those that exist."""
    return _named(load(paper).recipes, name, f"recipe of {paper}")


def source(paper: str, name: str) -> Origin:
    """Where a table, figure, recipe, entry or fact of `paper` comes from, with what its source keys mean.

    Raises ValueError for a name that the paper's file does not have.
    """
    content = load(paper)
    known = {**content.facts, **content.entries, **content.recipes, **content.exhibits}
    entry: Any = _named(known, name, f"table, figure, recipe, entry or fact of {paper}")
    keys = {key: content.sources[key].what for key in source_keys(entry.source, content.sources)}
    printed = getattr(entry, "printed", None) or getattr(entry, "stage", None) or type(entry).__name__.lower()
    note = getattr(entry, "note", None) or getattr(entry, "missing", None)
    return Origin(f"{paper}/{name}", printed, entry.source, keys, entry.confidence, note)


def _estimate(shown: Exhibit, row: tuple[object, ...], column: str, value: float) -> Estimate:
    """A printed value with the interval that its printed error or spread gives it."""
    error, spread, count = (shown.companion(row, column, role) for role in ("error", "spread", "count"))
    n = None if count is None else int(count)
    if error is not None:
        half = NORMAL_95 * error
        return Estimate(value, Interval(value - half, value + half), n, "standard error x 1.96, published")
    if spread is not None and n is not None:
        half = float(stdtrit(n - 1, 0.975)) * spread / n**0.5
        method = "t 95 %, from the published standard deviation"
        return Estimate(value, Interval(value - half, value + half), n, method, of=f"{n} runs")
    return Estimate(value, None, n, "")


def _named(known: Any, name: str, kind: str) -> Any:
    if name not in known:
        raise ValueError(f"no {kind} named {name!r}; known: {', '.join(known)}")
    return known[name]


@lru_cache
def _parse(path: Path, changed_ns: int, size: int) -> Published:
    """One file, kept as long as its time and size are the same."""
    return parse(_yaml(path), f"papers/{path.parent.name}/{path.name}")


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"papers/{path.parent.name}/{path.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"papers/{path.parent.name}/{path.name} must be a mapping of sections")
    return content
