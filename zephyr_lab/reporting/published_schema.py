"""The shape of papers/<paper>/published.yaml: one frozen dataclass an entry, unknown keys refused.

Nothing here knows a value; `published` loads the files and answers questions about them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from zephyr_lab.core.settings import from_table

Confidence = Literal["verified", "quoted", "recalled"]
ROLES = ("label", "value", "error", "spread", "count")
ENTRY_SECTIONS = ("equations", "data", "evaluation", "implementation")

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
    """What a short key such as "P" or "AE" stands for."""

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

    `printed` is its name in print ("Table 1"); `row` names the label columns that tell rows apart.
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

    def companion(self, column: str, role: str) -> int | None:
        """Where the error, spread or count of `column` stands, if it is printed."""
        for place, known in enumerate(self.columns):
            if known.of == column and known.role == role:
                return place
        return None


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
    found = {key: re.search(rf"(?<![\w.]){re.escape(key)}(?![\w]|\.\d)", text) for key in sources}
    return sorted((key for key, match in found.items() if match), key=lambda key: found[key].start())  # type: ignore[union-attr]


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
