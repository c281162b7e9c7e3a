"""Statements that published facts decide: the overview documents' (S0-*, S1-*, S3-*) and Zephyr's Z6.

Each claim has one rule that reads named facts and computes right, wrong, imprecise or unsupported. "unsupported" is
computed too: the quantity is nowhere printed. A document that contradicts itself is imprecise where one of its versions
is right, wrong where none is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zephyr_lab.reporting import claims, statements_drafts, statements_figures, statements_methods, statements_short
from zephyr_lab.reporting.statements_facts import Facts, Rule

RULES: dict[str, Rule] = {
    **statements_short.RULES,
    **statements_figures.RULES,
    **statements_methods.RULES,
    **statements_drafts.RULES,
}


@dataclass(frozen=True)
class Statement:
    """A decided statement: the verdict, one line that gives the figures, and the facts it rests on."""

    id: str
    verdict: str
    why: str
    facts: tuple[str, ...]


def decide(id: str, changed: Mapping[str, Any] | None = None) -> Statement:
    """The verdict on one statement; `changed` overrides facts by their address (to see what the verdict rests on).

    Raises ValueError for a claim that published facts do not decide.
    """
    known = claims.everything()
    if id not in RULES or id not in known:
        raise ValueError(f"published facts do not decide {id!r}; they decide {', '.join(decidable())}")
    facts = Facts(known[id], changed)
    decision = RULES[id](facts)
    return Statement(id, decision.verdict, decision.why, tuple(facts.used))


def decidable() -> list[str]:
    """Ids of the claims that published facts decide, in the order of the ledger."""
    return [id for id, claim in claims.everything().items() if claim.decided_by == claims.PUBLISHED_FACTS]


def decide_all(ids: Iterable[str] | None = None) -> list[Statement]:
    """The verdicts on `ids`, or on every statement that published facts decide."""
    return [decide(id) for id in (decidable() if ids is None else ids)]
