"""What the papers published, as typed values with their sources: papers/<paper>/published.yaml.

`table` gives the tidy frame that stands beside ours, `fact` one checked value, `source` says where a number is from.
Reading a file registers it with the running notebook, so that a changed value makes its figures stale.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from zephyr_lab.core import paths, session
from zephyr_lab.reporting.published_schema import Exhibit, Fact, Published, Recipe, parse, source_keys

TIDY = ("row", "metric", "kind", "value", "low", "high", "n", "seeds", "interval", "source")
NORMAL_95 = 1.96  # what a published standard error is multiplied with

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: ten times faster


@dataclass(frozen=True)
class Origin:
    """Where a published thing stands: its name in print, its source line, what the keys in it mean, how sure it is."""

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
    """The tidy frame of a published table: one row a printed number, columns `TIDY`, kind "quoted".

    Cells that print nothing are left out. `low` and `high` come from a printed standard error x 1.96, or from a printed
    standard deviation over n runs by the t distribution; null where neither is printed.
    """
    shown = exhibit(paper, name)
    tidy = []
    for label, row in zip(shown.labels(), shown.rows, strict=True):
        for place, column in enumerate(shown.columns):
            value = row[place]
            if column.role != "value" or value is None:
                continue
            low, high, count, interval = _published_interval(shown, row, column.name, float(value))  # type: ignore[arg-type]
            tidy.append((label, column.name, "quoted", float(value), low, high, count, None, interval, shown.printed))  # type: ignore[arg-type]
    frame = pd.DataFrame(tidy, columns=list(TIDY))
    frame = frame.astype({"value": float, "low": float, "high": float, "n": "Int64", "seeds": "Int64"})
    frame["interval"] = frame["interval"].astype(object).where(frame["interval"].notna(), None)
    return frame


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
    found: Any = _named(known, name, f"table, figure, recipe, entry or fact of {paper}")
    keys = {key: content.sources[key].what for key in source_keys(found.source, content.sources)}
    printed = getattr(found, "printed", None) or getattr(found, "stage", None) or type(found).__name__.lower()
    note = getattr(found, "note", None) or getattr(found, "missing", None)
    return Origin(f"{paper}/{name}", printed, found.source, keys, found.confidence, note)


def _published_interval(
    shown: Exhibit, row: tuple[object, ...], column: str, value: float
) -> tuple[float | None, float | None, int | None, str | None]:
    """(low, high, n, what the interval is) of a printed value; all but n None where no error is printed."""
    count = _companion(shown, row, column, "count")
    n = None if count is None else int(count)
    error = _companion(shown, row, column, "error")
    if error is not None:
        half = NORMAL_95 * error
        return value - half, value + half, n, "standard error x 1.96, published"
    spread = _companion(shown, row, column, "spread")
    if spread is not None and n is not None:
        from scipy.stats import t

        half = float(t.ppf(0.975, n - 1)) * spread / n**0.5
        return value - half, value + half, n, f"{n} runs, t 95 %, from the published standard deviation"
    return None, None, n, None


def _companion(shown: Exhibit, row: tuple[object, ...], column: str, role: str) -> float | None:
    place = shown.companion(column, role)
    return None if place is None or row[place] is None else float(row[place])  # type: ignore[arg-type]


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
