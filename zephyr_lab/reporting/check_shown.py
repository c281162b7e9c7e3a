"""How findings and verdicts look in a notebook: one line, or one small table. Nothing is computed or written here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from zephyr_lab.reporting.claims import Claim
from zephyr_lab.reporting.ledger import effect_text, finding_word
from zephyr_lab.reporting.tables import Shown

HEADINGS = ("claim", "statement", "published", "verdict", "effect [95 %]", "why")


@dataclass(frozen=True)
class Finding:
    """A number of ours beside a published one. `agrees` is None where nothing is printed."""

    what: str
    ours: float
    interval: tuple[float, float] | None
    published: float | None
    source: str
    agrees: bool | None
    digits: int

    def __repr__(self) -> str:
        word = finding_word(vars(self))
        shown = f"{self.ours:.{self.digits}f}"
        if self.interval:
            shown += f" [{self.interval[0]:.{self.digits}f}, {self.interval[1]:.{self.digits}f}]"
        theirs = "" if self.published is None else f", published {self.published:.{self.digits}f}"
        return f"{word:7}  {self.what}: {shown}{theirs} ({self.source})"


def shown_claims(entries: Sequence[Mapping[str, Any]], known: Mapping[str, Claim]) -> Shown:
    """The verdicts as a table: HTML in a notebook, plain text elsewhere."""
    rows = [
        (
            entry["id"],
            known[entry["id"]].statement,
            known[entry["id"]].published or "",
            entry["verdict"],
            effect_text(entry),
            entry["why"],
        )
        for entry in entries
    ]
    head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in HEADINGS)
    body = "".join(
        "<tr>"
        + "".join(f'<td style="text-align:left;vertical-align:top">{escape(cell)}</td>' for cell in row)
        + "</tr>"
        for row in rows
    )
    text = "\n".join(
        f"{id}  {verdict}{f'  {effect}' if effect else ''}: {why}" for id, _, _, verdict, effect, why in rows
    )
    return Shown(html=f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", text=text)
