"""The model card: `README.md` beside the weights, with data, checks, settings, results, gaps and provenance.

Texts of rows and models are shown as text: no markup, link or control character of theirs takes effect.
"""

import html
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from zephyr_lab.core import files, provenance
from zephyr_lab.scoring.intervals import Estimate

NOT_MEASURED = (
    "other seeds of the training: one model was trained, and intervals are over held-out prompts alone",
    "harm, bias, refusals and made-up answers",
    "abilities outside the rows of this file, before and after",
)
_MARKUP = str.maketrans({mark: f"&#{ord(mark)};" for mark in "|*_`[]~#\\@"})


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says. checks: a frame of counts; settings: of each step; results: measures by model; samples: as
    `samples.beside` gives them; not_measured: beside `NOT_MEASURED`."""

    title: str
    base: str
    source: str
    digest: str
    rows: int
    trained: int
    held_out: int
    left_out: Sequence[str] = ()
    checks: pd.DataFrame = field(default_factory=pd.DataFrame)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    results: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    samples: pd.DataFrame = field(default_factory=pd.DataFrame)
    not_measured: Sequence[str] = ()


def write(folder: Path, card: Card) -> Path:
    """Write `card` as README.md into `folder`, and return where it is."""
    path = folder / "README.md"
    files.write_text(path, text(card))
    return path


def text(card: Card) -> str:
    """The card in Markdown."""
    left_out = [f"Rows left out: {len(card.left_out)}", "", *(f"- {shown(one)}" for one in card.left_out)]
    results = [
        {"model": model, "measure": measure, "value": _number(number), "n": number.n, "interval": number.basis}
        for model, numbers in card.results.items()
        for measure, number in numbers.items()
    ]
    parts = [
        f"# {shown(card.title)}",
        f"Base model: {shown(card.base)}",
        "## Data",
        f"Source: {shown(card.source)}, SHA-256 {card.digest[:16]}. {card.rows} rows, {card.trained} of them trained "
        f"on and {card.held_out} held out, by prompt.",
        "\n".join(left_out) if card.left_out else "No row was left out.",
        table(card.checks.to_dict("records")),
        "## Settings",
        *(f"{shown(step)}: {_code(json.dumps(values, default=str))}" for step, values in card.settings.items()),
        "## Results",
        "On the held-out rows, with 95 % intervals over their prompts.",
        table(results),
        "## Samples",
        "The same prompts and draws for all models. A model's text is shown as it came.",
        *(_sample(**one) for one in card.samples.to_dict("records")),
        "## Not measured",
        "\n".join(f"- {shown(one)}" for one in (*card.not_measured, *NOT_MEASURED)),
        "## Provenance",
        _code(json.dumps(provenance.describe())),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def shown(value: Any) -> str:
    """A value as one line of Markdown in which nothing takes effect; control characters are spelt out."""
    plain = html.escape(_visible(str(value)).replace("\n", " "), quote=False).translate(_MARKUP)
    return plain.replace("://", ":&#47;/").replace("www.", "www&#46;")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of rows with equal names; empty where there is no row."""
    if not rows:
        return ""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([("–" if row[n] is None else row[n]) for n in names] for row in rows)]
    return "\n".join(
        f"| {' | '.join(cell if place == 1 else shown(cell) for cell in line)} |" for place, line in enumerate(lines)
    )


def _number(number: Estimate) -> str:
    if number.value is None:
        return "–"
    ends = f" ({number.interval.low:.3f} to {number.interval.high:.3f})" if number.interval else ""
    return f"{number.value:.3f}{ends}"


def _sample(question: str, asked: str, model: str, answer: str) -> str:
    return f"{shown(model)}, {shown(asked)}: {shown(question)}\n\n{_code(answer)}"


def _code(words: str) -> str:
    """Text as it is, in a block that no Markdown reads; it ends at its closing tag, which escaped text cannot hold."""
    return f"<pre>{html.escape(_visible(words), quote=False)}</pre>"


def _visible(words: str) -> str:
    """The text with control characters, and those that turn the direction of writing, spelt out."""
    return "".join(
        one if one == "\n" or unicodedata.category(one) not in ("Cc", "Cf", "Cs") else f"\\u{ord(one):04x}"
        for one in words
    )
