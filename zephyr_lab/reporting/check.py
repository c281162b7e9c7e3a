"""What a notebook says at its end: exact checks, findings, verdicts on claims, and which items it made.

Each call is recorded in build/<profile>/ledger/<notebook>.json, one fragment a notebook, rewritten whole. An exact
check that fails raises after it is recorded; a difference from a paper is a finding and never raises.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from zephyr_lab.core import files, session
from zephyr_lab.reporting import claims as registry
from zephyr_lab.reporting import ledger, registered, tables
from zephyr_lab.reporting import statements as rules
from zephyr_lab.reporting.claims import Claim
from zephyr_lab.reporting.ledger_shown import Finding, shown_claims
from zephyr_lab.reporting.tables import Shown
from zephyr_lab.scoring.intervals import Estimate, Interval

PARTS = {"items": "id", "claims": "id", "exact": "what", "findings": "what"}  # section -> what names an entry
SCORES = {"row", "metric", "kind", "value"}  # columns of a table of scores; other tables name no kind of number
Effects = Mapping[str, Estimate | Sequence[Estimate]] | pd.DataFrame | None
NO_INTERVAL = "one seed gives no interval, and an effect without an interval gives no verdict"

_written: tuple[session.Session, dict[str, Any]] | None = None


def exact(what: str, got: Any, expected: Any, tolerance: float | int = 0) -> None:
    """Integrity: `got` must equal `expected`, numbers to within `tolerance`.

    Raises ValueError where it does not (NaN never does); the failure is recorded first.
    """
    got, expected = _plain(got), _plain(expected)
    holds = _equal(got, expected, tolerance)
    shown = [value if not isinstance(value, float) or math.isfinite(value) else str(value) for value in (got, expected)]
    entry = {"what": what, "got": shown[0], "expected": shown[1], "tolerance": tolerance, "holds": holds}
    _record("exact", [entry])
    if not holds:
        within = f" to within {tolerance:g}" if tolerance else ""
        raise ValueError(f"integrity: {what} is {shown[0]}, must be {shown[1]}{within}")


def finding(
    what: str,
    ours: float | int,
    published: float | int | None,
    *,
    source: str,
    interval: Sequence[float] | None = None,
    digits: int = 2,
) -> Finding:
    """A number of ours beside the published one: it agrees where it rounds to what is printed with `digits` digits.

    `published` None: nothing is printed, neither agrees nor differs. Recorded, never raises for a difference.
    """
    published = None if published is None else float(published)
    number = Estimate(float(ours), None if interval is None else Interval(*map(float, interval)), None)
    agrees = None if published is None else abs(number.value - published) <= 0.5 * 10**-digits * (1 + 1e-9)
    entry = {"what": what, "ours": number.value, "interval": list(number.interval) if number.interval else None}
    _record("findings", [entry | {"published": published, "source": source, "agrees": agrees}])
    return Finding(what, number, published, source, agrees, digits)


def claims(paper: str, ids: Iterable[str], measured: Effects = None) -> Shown:
    """Record and show the verdicts on claims of `paper`.

    `measured` gives effects by claim id: one `Estimate`, or one for each part of the claim in order; or a tidy frame
    whose rows are named by claim ids (a claim of several parts: one row a part, its metric as in claims.toml). Claims
    that published facts decide need none, and no effect changes their verdict; one that is given is recorded beside it
    as what the claim's `later` announced. What is not given is "not measured yet", or "not testable here" with why.
    Raises ValueError for an id that the paper does not have, and for an effect that no `later` announced.
    """
    return shown_claims(decided(paper, ids, measured), registry.everything())


def decided(paper: str, ids: Iterable[str], measured: Effects = None) -> list[dict[str, Any]]:
    """As `claims`, which shows them: the entries of the ledger, with verdict, effect, interval, n, seeds and why."""
    known = {claim.id: claim for claim in registry.load(paper)}
    wanted = list(ids)
    unknown = [id for id in wanted if id not in known]
    if unknown:
        raise ValueError(f"{paper} has no claim {unknown[0]!r}; known: {', '.join(known)}")
    entries = [_entry(known[id], _effects(known[id], measured)) for id in wanted]
    _record("claims", entries)
    return entries


def statements(ids: Iterable[str] | None = None) -> Shown:
    """Record and show what published facts decide: all such statements, or `ids`. Raises ValueError for others."""
    entries = [_claim(one.id, one.verdict, why=one.why, facts=one.facts) for one in rules.decide_all(ids)]
    _record("claims", entries)
    return shown_claims(entries, registry.everything())


def item(
    id: str,
    *,
    present: Iterable[str],
    lacking: Mapping[str, str] | None = None,
    holds: Mapping[str, bool] | None = None,
    files: Iterable[str | Path] = (),
) -> None:
    """Record that this notebook made an item of papers/items.toml, with its files (below build/<profile>/).

    Each kind of number that the item has is named once: `present`, or `lacking`, kind -> why it is not there; `lacking`
    may name parts of a kind as well ("recomputed AlpacaEval"). `holds` says what the item must hold to show what its
    title says, and whether it does ("rows of both routes" -> False). The item is partial, with the reason, where
    anything is lacking, where its tables have no number of a kind that is named as present, and where it does not hold
    what it must. Raises ValueError for an unknown item, for a kind named twice or not at all, and for a file that is
    elsewhere or was not written.
    """
    known = ledger.items()
    if id not in known:
        raise ValueError(f"no item {id!r} in papers/items.toml; known: {', '.join(known)}")
    present, lacking = list(present), dict(lacking or {})
    named = [*present, *(kind for kind in lacking if kind in ledger.KINDS)]
    if sorted(named) != sorted(known[id].kinds):
        raise ValueError(
            f"{id} shows {known[id].kind}: name each kind once in present or lacking; got {'+'.join(named)}"
        )
    written = [_below_build(file) for file in files]
    absent = _absent_kinds(present, [session.current().build / name for name in written])
    entry = {"id": id, "kind": known[id].kind, "present": [kind for kind in present if kind not in absent]}
    unheld = {what: "what was made here does not show it" for what, held in (holds or {}).items() if not held}
    _record("items", [entry | {"lacking": lacking | absent | unheld, "files": written}])


def _entry(claim: Claim, effects: list[Estimate] | None) -> dict[str, Any]:
    if claim.decided_by == registry.PUBLISHED_FACTS:
        return _beside_facts(claim, effects)
    if claim.not_testable:
        return _claim(claim.id, registry.NOT_TESTABLE, why=claim.not_testable)
    if effects is None:
        return _claim(claim.id, registry.NOT_MEASURED, why=f"needs: {claim.test}")
    if any(effect.interval is None for effect in effects):
        return _claim(claim.id, registry.NOT_RESOLVED, why=NO_INTERVAL)
    verdict, decisive = registry.judge(claim, effects)
    part = claim.parts[effects.index(decisive)]
    why = f"{part.metric}: {part.direction}, margin {part.margin:g}"
    if claim.not_tested:
        verdict, why = registered.of_the_whole(claim, verdict), f"{why}, {verdict}; not tested: {claim.not_tested}"
    return _claim(claim.id, verdict, why=why, effect=decisive)


def _beside_facts(claim: Claim, effects: list[Estimate] | None) -> dict[str, Any]:
    """A statement that published facts decide, and beside its verdict what our own data say of it."""
    decided = rules.decide(claim.id)
    if effects is None or any(effect.interval is None for effect in effects):
        return _claim(claim.id, decided.verdict, why=decided.why, facts=decided.facts)
    if claim.later is None or len(effects) != 1:
        raise ValueError(
            f"{claim.id} is decided by published facts and takes one effect beside its verdict, named by `later` in "
            f"claims.toml; got {len(effects)}, later = {claim.later!r}"
        )
    registry.require_measured(effects[0])
    why = f"{decided.why}; effect: {claim.later}"
    return _claim(claim.id, decided.verdict, why=why, facts=decided.facts, effect=effects[0])


def _claim(
    id: str, verdict: str, *, why: str, facts: Sequence[str] = (), effect: Estimate | None = None
) -> dict[str, Any]:
    return {"id": id, "verdict": verdict, **ledger.as_json(effect), "why": why, "facts": list(facts)}


def _effects(claim: Claim, measured: Effects) -> list[Estimate] | None:
    """The effects of a claim's parts in order; None where there are none."""
    if isinstance(measured, Mapping):
        effects = measured.get(claim.id)
        return [effects] if isinstance(effects, Estimate) else None if effects is None else list(effects)
    if measured is None or claim.id not in set(measured["row"]):
        return None
    rows = measured[measured["row"] == claim.id]
    if len(claim.parts) > 1:
        order = [part.metric for part in claim.parts]
        strange = sorted(set(rows["metric"]) ^ set(order))
        if strange:
            raise ValueError(
                f"{claim.id} needs one row for each of its metrics ({'; '.join(order)}); see {strange[0]!r}"
            )
        rows = rows.set_index("metric").loc[order]
    return [tables.estimate(row) for row in rows.to_dict("records")]


def _record(section: str, entries: list[dict[str, Any]]) -> None:
    """Put entries into the fragment of the running notebook, in place of older ones of the same name, and write it."""
    fragment = _fragment()
    name = PARTS[section]
    kept = {entry[name]: entry for entry in fragment[section]}
    kept |= {entry[name]: entry for entry in entries}
    fragment[section] = list(kept.values())
    running = session.current()
    path = running.build / "ledger" / f"{running.notebook}.json"
    files.write_json(path, fragment)
    session.add_product(path)


def _fragment() -> dict[str, Any]:
    """The fragment of the current session; a session that has just begun starts with an empty one."""
    global _written
    running = session.current()
    if _written is None or _written[0] is not running:
        head = {"notebook": running.notebook, "profile": running.profile, "seeds": running.seeds}
        _written = (running, {**head, **{section: [] for section in PARTS}})
    return _written[1]


def _below_build(file: str | Path) -> str:
    build = session.current().build.resolve()
    path = (build / file).resolve()
    if not path.is_relative_to(build):
        raise ValueError(f"a product is below build/{session.current().profile}/, not {file}")
    if not path.is_file():
        raise ValueError(f"{path.relative_to(build)} was not written: save the figure or table before check.item")
    return path.relative_to(build).as_posix()


def _plain(value: Any) -> Any:
    """A numpy or pandas scalar as a Python number, arrays and tuples as lists; anything else as it is."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _equal(got: Any, expected: Any, tolerance: float | int) -> bool:
    numbers = (int, float)
    if isinstance(got, numbers) and isinstance(expected, numbers):
        return abs(got - expected) <= tolerance
    if isinstance(got, list) and isinstance(expected, list):
        return len(got) == len(expected) and all(map(lambda a, b: _equal(a, b, tolerance), got, expected))
    return bool(got == expected)


def _absent_kinds(present: Iterable[str], written: Iterable[Path]) -> dict[str, str]:
    """Kinds of `present` that none of the tables of scores among `written` has a number of; {} where there is no such
    table."""
    kinds = {path.name: shown for path in written if (shown := _kinds(path)) is not None}
    if not kinds:
        return {}
    shown = set().union(*kinds.values())
    return {kind: f"{', '.join(kinds)} holds no number of this kind" for kind in present if kind not in shown}


def _kinds(path: Path) -> set[str] | None:
    """Kinds with a finite number in a table of scores; None for any other file."""
    if path.suffix != ".csv":
        return None
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not set(reader.fieldnames or ()) >= SCORES:
            return None
        return {row["kind"] for row in reader if row["value"] and math.isfinite(float(row["value"]))}
