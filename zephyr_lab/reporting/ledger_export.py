"""The ledger for others: its claims as a table for a CSV file, and all of it as one Markdown page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from zephyr_lab.core import paths
from zephyr_lab.reporting import claims, ledger
from zephyr_lab.reporting.ledger_shown import TITLES

GUIDE = "overview/VERDICTS.md"  # below papers/: how to read a verdict
COLUMNS = (
    "claim", "paper", "statement", "published", "verdict", "decided by", "effect", "low", "high", "n", "seeds", "basis",
    "one", "p", "p_holm", "half_width", "needs", "reached", "more", "built in", "regime map",
)  # fmt: skip
NUMBERS = ("effect", "low", "high", "p", "p_holm", "half_width", "needs")


def claims_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """One row a claim of a ledger, with `COLUMNS`; empty where nothing was measured. decided by: the metric of the part
    that decided, with direction and margin, or what else decides; one: what all seeds share; built in: why
    the world decides it, with the notebook of its regime map; the rest as in `zephyr-lab check --json`."""
    rows = []
    for paper in claims.PAPERS:
        known = {claim.id: claim for claim in claims.load(paper)}
        for claim in record["claims"]:
            if claim["id"] in known:
                stated, (low, high) = known[claim["id"]], claim["interval"] or (None, None)
                own = {"claim": claim["id"], "paper": TITLES[paper], "decided by": _decided_by(stated, claim)}
                own |= {"built in": stated.built_in, "regime map": stated.regime_map}
                ends = {"low": low, "high": high, "statement": stated.statement, "published": stated.published}
                rows.append(dict.fromkeys(COLUMNS) | claim | own | ends)
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    return table.astype(dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(("n", "seeds"), "Int64"))


def csv_text(record: Mapping[str, Any]) -> str:
    """`claims_table` as CSV, numbers to eight significant digits."""
    return claims_table(record).to_csv(index=False, float_format="%.8g", lineterminator="\n")


def markdown_text(record: Mapping[str, Any]) -> str:
    """One page: profile and counts, items, claims paper by paper, and how to read a verdict."""
    seeds = "no seeds yet" if record["seeds"] is None else f"{record['seeds']} seeds"
    items, stated = ledger.items(), claims.everything()
    page = [
        "# Ledger",
        f"Profile `{record['profile']}`, {seeds}. {len(record['claims'])} claims; Holm's p is over {record['tests']} "
        "tests. How to read a verdict: below.",
        "## Items",
        _table(
            ("item", "what", "shows", "status", "lacking"),
            (
                (one["id"], items[one["id"]].title, "+".join(one["present"]), one["status"], ledger.lacking_text(one))
                for one in record["items"]
            ),
        ),
    ]
    for paper in claims.PAPERS:
        ids = {claim.id for claim in claims.load(paper)}
        page += [
            f"## Claims: {TITLES[paper]}",
            _table(
                ("claim", "statement", "published", "verdict", "effect [95 %]", "p", "half-width"),
                (
                    (one["id"], stated[one["id"]].statement, stated[one["id"]].published,
                     ledger.verdict_text(one, stated),
                     ledger.effect_text(one), ledger.p_text(one), ledger.half_width_text(one))
                    for one in record["claims"] if one["id"] in ids
                ),
            ),
        ]  # fmt: skip
    guide = paths.papers_dir() / GUIDE
    if guide.is_file():
        page.append(guide.read_text(encoding="utf-8").strip().replace("\n## ", "\n### ").replace("# How", "## How", 1))
    return "\n\n".join(page) + "\n"


def _decided_by(stated: claims.Claim, claim: Mapping[str, Any]) -> str:
    """`chat score: ..., higher, margin 0.1`, or what else decides."""
    if not stated.parts:
        return stated.not_testable or stated.decided_by
    part = next((one for one in stated.parts if one.metric == claim.get("part")), stated.parts[0])
    return f"{part.metric}, {part.direction}, margin {part.margin:g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    """A table in Markdown; bars in cells escaped, line ends as spaces."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([" ".join((cell or "").replace("|", "\\|").split()) for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
