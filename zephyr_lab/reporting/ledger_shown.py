"""How findings, verdicts and the ledger look in a notebook: lines, tables and frames. Nothing is decided or written."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from zephyr_lab.reporting import claims, ledger
from zephyr_lab.reporting.claims import Claim
from zephyr_lab.reporting.ledger import effect_text, finding_word
from zephyr_lab.reporting.tables import Shown
from zephyr_lab.scoring.intervals import Estimate

TITLES = {"zephyr": "Zephyr", "kd_dae": "KD + DAE", "eda": "EDA", "overview": "overview documents"}
HEADINGS = ("claim", "statement", "published", "verdict", "effect [95 %]", "why")


@dataclass(frozen=True)
class Finding:
    """A number of ours beside a published one. `agrees` is None where nothing is printed."""

    what: str
    ours: Estimate
    published: float | None
    source: str
    agrees: bool | None
    digits: int

    def __repr__(self) -> str:
        word = finding_word({"published": self.published, "agrees": self.agrees})
        theirs = "" if self.published is None else f", published {self.published:.{self.digits}f}"
        return f"{word:7}  {self.what}: {self.ours.text(f'.{self.digits}f')}{theirs} ({self.source})"


def shown_claims(entries: Sequence[Mapping[str, Any]], known: Mapping[str, Claim]) -> Shown:
    """The verdicts as a table: HTML in a notebook, plain text elsewhere."""
    rows = []
    for entry in entries:
        claim = known[entry["id"]]
        published = claim.published or ""
        rows.append((claim.id, claim.statement, published, entry["verdict"], effect_text(entry), entry["why"]))
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


def items_frame(record: Mapping[str, Any]) -> pd.DataFrame:
    """One row an item of a ledger: its title, the kinds of number it shows here, its status, what is lacking and why,
    and the notebook that makes it."""
    known = ledger.items()
    return pd.DataFrame(
        {
            "item": item["id"],
            "what": known[item["id"]].title,
            "shows": "+".join(item["present"]),
            "status": item["status"],
            "lacking": ledger.lacking_text(item),
            "notebook": known[item["id"]].notebook,
        }
        for item in record["items"]
    )


def claims_frame(record: Mapping[str, Any]) -> pd.DataFrame:
    """One row a claim: the statement, what was published for it, the verdict, the effect with interval and counts, p at
    the margin with Holm's, and the interval's half-width beside the one that the margin needs."""
    known = claims.everything()
    return pd.DataFrame(
        {
            "claim": claim["id"],
            "statement": known[claim["id"]].statement,
            "published": known[claim["id"]].published,
            "verdict": ledger.verdict_text(claim, known),
            "effect [95 %]": effect_text(claim),
            "p": ledger.p_text(claim),
            "half-width": ledger.half_width_text(claim),
        }
        for claim in record["claims"]
    )


def verdict_counts(record: Mapping[str, Any]) -> pd.DataFrame:
    """How many claims of each paper, (paper, verdict), have each verdict that occurs, in the order of `VERDICTS`."""
    verdicts = {claim["id"]: claim["verdict"] for claim in record["claims"]}
    counts = {
        TITLES[paper]: Counter(verdicts[claim.id] for claim in claims.load(paper) if claim.id in verdicts)
        for paper in claims.PAPERS
    }
    occurring = [verdict for verdict in claims.VERDICTS if verdict in verdicts.values()]
    return pd.DataFrame(
        [[count[verdict] for verdict in occurring] for count in counts.values()],
        index=pd.Index(list(counts), name="paper"),
        columns=occurring,
    )
