"""Tables of scores, ours beside theirs: one tidy frame for files and pictures, one readable table for people.

One row a number: row (model or arm, as printed), metric, kind, value, low, high, n, seeds, interval, source. A
number of ours without low, high, n and the name of its interval is refused.
"""

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from zephyr_lab.core import files, session
from zephyr_lab.reporting.ledger import require_id
from zephyr_lab.scoring.intervals import Estimate, Interval
from zephyr_lab.scoring.mean_squares import MeanSquares

COLUMNS = ("row", "metric", "kind", "value", "low", "high", "n", "seeds", "interval", "source")
OURS = ("recomputed", "retrained")
KINDS = (*OURS, "quoted")
GREY = "#6b6b6b"  # for what is theirs: 5.3 to 1 on white, readable and clearly set back

_CELL = "padding:2px 12px;white-space:nowrap;text-align:left"
_WORDS = "text-align:left;vertical-align:top;white-space:normal;max-width:42em"
_BAR = " | "


def line(row: str, metric: str, kind: str, number: Estimate, *, source: str) -> dict[str, Any]:
    """A line of the tidy frame, from the number that it holds; `estimate` reads it back."""
    low, high = number.interval or (None, None)
    return {
        "row": row, "metric": metric, "kind": kind, "value": number.value, "low": low, "high": high,
        "n": number.n, "seeds": number.seeds, "interval": number.basis or None, "source": source,
    }  # fmt: skip


def estimate(line: Mapping[str, Any]) -> Estimate:
    """The number in a line of a tidy frame, or of its CSV file; what is null or left out there is None."""

    def read(name: str, kind: type) -> Any:
        value = line.get(name)
        return None if pd.isna(value) or value == "" else kind(float(value))

    ends = read("low", float), read("high", float)
    interval = None if None in ends else Interval(*ends)
    of, _, method = text.partition(", ") if isinstance(text := line.get("interval"), str) else ("", "", "")
    of, method = (of, method) if method else ("", of)
    squares = line["squares"] if isinstance(line.get("squares"), MeanSquares) else None  # of the effect of a claim
    return Estimate(read("value", float), interval, read("n", int), method, read("seeds", int), of, squares)


def frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The tidy frame of `rows`, checked; columns that a row leaves out are null. Raises ValueError as `check` does."""
    records = [dict(row) for row in rows]
    unknown = {name for record in records for name in record} - set(COLUMNS)
    if unknown:
        raise ValueError(f"a table of scores has no column {', '.join(sorted(unknown))}; known: {', '.join(COLUMNS)}")
    table = pd.DataFrame([[record.get(name) for name in COLUMNS] for record in records], columns=list(COLUMNS))
    return check(_typed(table))


def check(table: pd.DataFrame) -> pd.DataFrame:
    """`table` itself, if it keeps the rules of a tidy frame.

    Raises ValueError for a missing column, an unknown kind, two numbers in one place, a value outside its own
    interval, and a number of ours without interval, n or, where retrained, count of seeds.
    """
    _require_columns(table)
    unknown = sorted(set(table["kind"]) - set(KINDS))
    if unknown:
        raise ValueError(f"no kind of result named {unknown[0]!r}; known: {', '.join(KINDS)}")
    place = ["row", "metric", "kind"]
    twice = table[table.duplicated(place)]
    if len(twice):
        first = twice.iloc[0]
        raise ValueError(f"two {first['kind']} values for {first['row']}, {first['metric']}; one place, one number")
    for _, number in table.iterrows():
        _check_number(number)
    return table


def require_metrics(table: pd.DataFrame, wanted: Iterable[str]) -> None:
    """Raises ValueError, naming what is known, for a metric that the table lacks."""
    known = list(dict.fromkeys(table["metric"]))
    for metric in wanted:
        if metric not in known:
            raise ValueError(f"the table has no metric named {metric!r}; known: {', '.join(known)}")


def side_by_side(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """One tidy frame of both, in the order that `theirs` prints its rows; rows of ours alone come last.

    Within a row and metric: quoted, recomputed, retrained. Raises ValueError where `ours` holds a quoted value
    or `theirs` one of ours, and as `check` does.
    """
    for name, table, allowed in (("ours", ours, OURS), ("theirs", theirs, ("quoted",))):
        wrong = sorted(set(table["kind"]) - set(allowed))
        if wrong:
            raise ValueError(f"{name} must hold {' or '.join(allowed)} values only, got {', '.join(wrong)}")
    both = pd.concat([_typed(theirs), _typed(ours)], ignore_index=True)
    for column in ("row", "metric"):
        both[column] = pd.Categorical(both[column], categories=list(dict.fromkeys(both[column])), ordered=True)
    both["kind"] = pd.Categorical(both["kind"], categories=["quoted", *OURS], ordered=True)
    ordered = both.sort_values(["row", "metric", "kind"], kind="stable", ignore_index=True)
    return check(_typed(ordered.astype({"row": object, "metric": object, "kind": object})))


def stacked(*parts: pd.DataFrame) -> pd.DataFrame:
    """Tidy frames one below the other; empty ones are left out. Raises ValueError as `check` does."""
    filled = [_typed(part) for part in parts if not part.empty]
    return check(pd.concat(filled, ignore_index=True)) if filled else frame([])


def save(table: pd.DataFrame, id: str) -> Path:
    """Write the tidy frame to build/<profile>/tables/<id>.csv, say so to the session, return where it is.

    Eight significant digits: the same data gives the same bytes, whatever the last bit of a processor says.
    Raises ValueError as `check` does, so no bare number of ours reaches a file.
    """
    return save_words(check(_typed(table)), id)


@dataclass(frozen=True)
class Shown:
    """A table for the eye: HTML in a notebook, plain text elsewhere."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def show(
    table: pd.DataFrame, *, digits: int = 2, names: Mapping[str, str] | None = None, turned: bool = False
) -> Shown:
    """One line a row and one column a metric: published in grey | ours with its interval and n.

    `names` gives metrics their headings; `turned` makes the metrics the lines. A note under the table says what each
    kind's interval means. A dash says that there is no such number.
    """
    table = _typed(check(table))
    if table.empty:
        return Shown(html="<p>no values at hand</p>", text="no values at hand")
    down, across = ("metric", "row") if turned else ("row", "metric")
    names = names or {}
    kinds = {
        column: [kind for kind in ("quoted", *OURS) if kind in set(part["kind"])]
        for column, part in table.groupby(across, sort=False)
    }
    numbers = {(one[down], one[across], one["kind"]): estimate(one) for one in table.to_dict("records")}
    head = [(names.get(column, column), own) for column, own in kinds.items()]
    body = [
        (
            names.get(row, row),
            [[_cell(numbers.get((row, column, kind)), kind, digits) for kind in own] for column, own in kinds.items()],
        )
        for row in dict.fromkeys(table[down])
    ]
    bases = {kind: table.loc[table["kind"] == kind, "interval"].dropna().unique() for kind in ("quoted", *OURS)}
    notes = [f"{_heading(kind)}: [{'; '.join(shown)}]" for kind, shown in bases.items() if len(shown)]
    return Shown(html=_html(head, body, notes), text=_text(head, body, notes))


def words(table: pd.DataFrame) -> Shown:
    """A frame of words, whole: no row left out, no text cut, HTML in it escaped; long texts take several lines."""
    with pd.option_context("display.max_colwidth", None):
        page = table.to_html(index=False, justify="left", border=0, na_rep="–")
        text = table.to_string(index=False, justify="left", na_rep="–")
    for tag in ("th", "td"):
        page = page.replace(f"<{tag}>", f'<{tag} style="{_WORDS}">')
    return Shown(html=page, text=text)


def save_words(table: pd.DataFrame, id: str) -> Path:
    """Write a frame of words to build/<profile>/tables/<id>.csv, say so to the session, return where it is."""
    require_id(id)
    path = session.current().build / "tables" / f"{id}.csv"
    files.write_text(path, table.to_csv(index=False, float_format="%.8g", lineterminator="\n"))
    session.add_product(path)
    return path


def _check_number(number: pd.Series) -> None:
    where = f"{number['kind']} {number['metric']} of {number['row']}"
    if number["kind"] in OURS:
        needed = ["low", "high", "n", "interval", *(["seeds"] if number["kind"] == "retrained" else [])]
        bare = [name for name in needed if pd.isna(number[name])]
        if pd.isna(number["value"]):
            raise ValueError(f"{where} has no value; leave the line out and say why in the item's `lacking`")
        if bare:
            raise ValueError(f"{where} is a bare number: {', '.join(bare)} missing; every number of ours has them")
    known = [number[name] for name in ("low", "value", "high") if not pd.isna(number[name])]
    if known != sorted(known):
        raise ValueError(f"{where}: {number['value']} lies outside its interval {number['low']} to {number['high']}")


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with its columns in order: floats, whole numbers that may be null, texts that may be null."""
    _require_columns(table)
    typed = table[list(COLUMNS)].copy()
    for name in ("value", "low", "high"):
        typed[name] = typed[name].astype("float64")
    for name in ("n", "seeds"):
        typed[name] = typed[name].astype("float64").astype("Int64")
    for name in ("interval", "source"):
        typed[name] = typed[name].astype(object).where(typed[name].notna(), None)
    return typed


def _require_columns(table: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise ValueError(f"a table of scores lacks the column {', '.join(missing)}; it needs: {', '.join(COLUMNS)}")


class Cell(NamedTuple):
    """A number as people read it: "6.86 [6.43, 7.26]", and in small print "n 160, 3 seeds"."""

    text: str
    counts: str
    kind: str


def _cell(number: Estimate | None, kind: str, digits: int) -> Cell:
    if number is None or number.value is None:
        return Cell("–", "", kind)
    return Cell(number.text(f".{digits}f"), number.counts, kind)


def _heading(kind: str) -> str:
    return "published" if kind == "quoted" else kind


Head = list[tuple[str, list[str]]]  # heading and kinds of each column
Body = list[tuple[str, list[list[Cell]]]]  # name and cells of each line


def _html(head: Head, body: Body, notes: list[str]) -> str:
    top = "".join(f'<th style="{_CELL}">{html.escape(name)}</th>' for name, _ in head)
    kinds = "".join(
        f'<td style="{_CELL}">{_BAR.join(_tinted(_heading(kind), kind) for kind in kinds)}</td>' for _, kinds in head
    )
    lines = "".join(
        f'<tr><th style="{_CELL}">{html.escape(name)}</th>'
        + "".join(f'<td style="{_CELL}">{_BAR.join(map(_cell_html, cells))}</td>' for cells in line)
        + "</tr>"
        for name, line in body
    )
    foot = "".join(f"<div>{_tinted(note, 'quoted')}</div>" for note in notes)
    return (
        f'<table><thead><tr><th style="{_CELL}"></th>{top}</tr><tr><td></td>{kinds}</tr></thead>'
        f"<tbody>{lines}</tbody></table>{foot}"
    )


def _cell_html(cell: Cell) -> str:
    small = f" <small>{_tinted(cell.counts, 'quoted')}</small>" if cell.counts else ""
    return _tinted(cell.text, cell.kind) + small


def _tinted(text: str, kind: str) -> str:
    """What is theirs in grey, what is ours in black."""
    return f'<span style="color:{GREY}">{html.escape(text)}</span>' if kind == "quoted" else html.escape(text)


def _text(head: Head, body: Body, notes: list[str]) -> str:
    lines = [["", *(name for name, _ in head)], ["", *(_BAR.join(map(_heading, kinds)) for _, kinds in head)]]
    lines += [
        [name, *(_BAR.join(f"{c.text} ({c.counts})" if c.counts else c.text for c in cells) for cells in line)]
        for name, line in body
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    printed = ["   ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([line.rstrip() for line in printed] + notes)
