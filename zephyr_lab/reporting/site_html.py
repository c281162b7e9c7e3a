"""Small pieces of HTML for the site: tables, badges, numbers with intervals. Text comes in plain and leaves escaped."""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from zephyr_lab.reporting.site_content import Number

NONE = '<span class="zl-none">–</span>'


def text(value: Any) -> str:
    """Plain text as HTML: nothing in it is obeyed."""
    return html.escape(str(value), quote=True)


def badge(word: str) -> str:
    """A status or verdict; its colour is in the style sheet, its word is what counts."""
    return f'<span class="zl-badge zl-{re.sub("[^a-z]+", "-", word.lower())}">{text(word)}</span>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], name: str = "") -> str:
    """A table of cells that are HTML already, in a wrapper that scrolls on a narrow screen."""
    head = "".join(f"<th>{text(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="table-wrapper"><table class="docutils zl-table {name}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bullets(entries: Iterable[str]) -> str:
    """A list of entries that are HTML already; nothing where there are none."""
    listed = "".join(f"<li>{entry}</li>" for entry in entries)
    return f"<ul>{listed}</ul>" if listed else ""


def on_demand(summary: str, content: str, name: str = "") -> str:
    """`content` behind a line that opens it; nothing where there is no content."""
    return f'<details class="{name}"><summary>{text(summary)}</summary>{content}</details>' if content else ""


def number(found: Number | None) -> str:
    """`6.86 [6.43, 7.26]`, with as many digits as the width of the interval gives sense to; a dash for None."""
    if found is None or found.value is None:
        return NONE
    if found.low is None or found.high is None or found.low == found.high:  # equal ends: the interval's name says why
        return f"{found.value:.6g}"
    digits = decimals(found.high - found.low)
    return f"{found.value:.{digits}f}" + interval([found.low, found.high], digits)


def decimals(width: float) -> int:
    """Digits after the point that show an interval of this width to two figures; at least 2 and at most 6."""
    if width <= 0:
        return 2
    exponent = int(f"{width:e}".partition("e")[2])
    return min(6, max(2, 1 - exponent))


def interval(ends: Sequence[float] | None, digits: int | None = None) -> str:
    """` [low, high]`, with a space before it to follow a value; empty for None."""
    if not ends:
        return ""
    low, high = (plain(end) if digits is None else f"{end:.{digits}f}" for end in ends)
    return f" [{low}, {high}]"


def plain(value: Any) -> str:
    """A number to four figures, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else text(value)


def whole(value: int | None) -> str:
    """A count, or a dash for None."""
    return NONE if value is None else str(value)


def duration(seconds: float | None) -> str:
    """`52 s` or `12 min`, unbreakable; empty for None."""
    if seconds is None:
        return ""
    return f"{seconds:.0f}\u00a0s" if seconds < 120 else f"{seconds / 60:.0f}\u00a0min"


def parameters(record: dict[str, Any]) -> str:
    """The parameters of a run as `name=value`, profile and seeds first."""
    given = {"profile": record.get("profile"), "seeds": record.get("seeds"), **record.get("parameters", {})}
    return " ".join(f"<code>{text(name)}={text(value)}</code>" for name, value in given.items() if value is not None)
