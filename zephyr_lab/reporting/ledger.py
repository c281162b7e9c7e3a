"""The ledger: every item with its status and every claim with its verdict, from what notebooks wrote.

`check` writes one fragment a notebook below build/<profile>/ledger/; `collect` joins them, and takes what the build
lacks from the committed figures/ledger.json. Whether a notebook is stale is for the lab to know; it is passed in.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, paths, session
from zephyr_lab.core.profiles import require_profile
from zephyr_lab.core.settings import from_table
from zephyr_lab.reporting import claims

STATUSES = ("ok", "partial", "stale", "missing")
KINDS = ("recomputed", "retrained", "quoted")
CLAIM_KEYS = ("id", "verdict", "effect", "interval", "n", "seeds")


@dataclass(frozen=True)
class Item:
    """A table, figure or study that the lab regenerates. `kind` joins the kinds of number it shows by "+"."""

    id: str
    title: str
    kind: str
    notebook: str

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self.kind.split("+"))


def items() -> dict[str, Item]:
    """The items of papers/items.toml by id, in the order of the ledger. Raises ValueError for a broken entry."""
    where = "papers/items.toml"
    path = paths.papers_dir() / "items.toml"
    session.read_file(path, name=where)
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    known = [from_table(table, Item, f"{where} [[items]]") for table in raw["items"]]
    for item in known:
        require_id(item.id)
        if not set(item.kinds) <= set(KINDS):
            raise ValueError(f"{where}: {item.id} has kind {item.kind!r}; known, joined by +: {', '.join(KINDS)}")
    return {item.id: item for item in known}


def fragments(profile: str) -> list[dict[str, Any]]:
    """What the notebooks of this checkout wrote at `profile`, in the order of their numbers.

    Fragments of notebooks that are gone, and of interactive sessions, do not count.
    """
    names = {path.stem for path in paths.notebooks_dir().glob("*.ipynb")}
    written = sorted((paths.build_dir(profile) / "ledger").glob("*.json"))
    return [files.read_json(path) for path in written if path.stem in names]


def committed() -> dict[str, Any] | None:
    """The ledger that was promoted with the figures; None before the first `make figures`."""
    path = paths.figures_dir() / "ledger.json"
    session.read_file(path, name="figures/ledger.json")
    return files.read_json(path) if path.is_file() else None


def collect(profile: str, *, stale: Iterable[str] = (), committed: bool = True) -> dict[str, Any]:
    """The ledger of `profile`, in the form that `zephyr-lab check --json` prints.

    `stale` names notebooks whose products do not stand any more. What build/<profile>/ lacks comes from the committed
    ledger; one of another profile gives only what no profile changes: items without a retrained column, claims not
    measured over seeds. `committed=False` gives the ledger that belongs into figures/: of the build alone, its files
    under the names they are promoted to. Raises ValueError where two notebooks that stand measured one claim.
    """
    require_profile(profile)
    stale = frozenset(stale)
    written, old = fragments(profile), _committed_for(profile) if committed else None
    _require_one_place(written, stale)
    told_items = [_item(item, profile, written, stale, old, promoted=not committed) for item in items().values()]
    told_claims = [_claim(id, written, stale, old) for id in claims.everything()]
    return {
        "profile": profile,
        "seeds": _seeds(written, old),
        "source": "build" if written and committed else "figures",
        "items": told_items,
        "claims": told_claims,
    }


def integrity_failures(profile: str) -> list[str]:
    """One line for each exact check of the build that did not hold."""
    return [
        f"{fragment['notebook']}: {exact['what']} is {exact['got']}, must be {required(exact)}"
        for fragment in fragments(profile)
        for exact in fragment["exact"]
        if not exact["holds"]
    ]


def required(exact: Mapping[str, Any]) -> str:
    """What an exact check asks for: "96", or "96 to within 5" where it has a tolerance."""
    tolerance = exact.get("tolerance") or 0
    return f"{exact['expected']} to within {tolerance:g}" if tolerance else str(exact["expected"])


def finding_word(finding: Mapping[str, Any]) -> str:
    """What a finding says of the published number: it "agrees" or "differs"; "noted" where nothing is published."""
    if finding.get("published") is None:
        return "noted"
    return "agrees" if finding["agrees"] else "differs"


def other_seeds(told: Mapping[str, Any], old: Mapping[str, Any] | None) -> str:
    """One line on verdicts that differ from the committed ones of the same profile at another count of seeds; empty
    where there are none. `changes` tells of those at equal seeds."""
    if old is None or old["profile"] != told["profile"]:
        return ""
    before = {claim["id"]: claim for claim in old["claims"]}
    differing = [
        (claim, before[claim["id"]])
        for claim in told["claims"]
        if claim["id"] in before
        and claims.NOT_MEASURED not in (claim["verdict"], before[claim["id"]]["verdict"])
        and claim["verdict"] != before[claim["id"]]["verdict"]
        and claim["seeds"] != before[claim["id"]]["seeds"]
    ]
    if not differing:
        return ""
    ours, theirs = (_counts(claim["seeds"] for claim in side) for side in zip(*differing, strict=True))
    ids = ", ".join(claim["id"] for claim, _ in differing)
    verdicts = "1 verdict differs" if len(differing) == 1 else f"{len(differing)} verdicts differ"
    return (
        f"{verdicts} from the committed at {theirs} seeds ({ids}); "
        f"this run has {ours}, and the fewer the seeds, the wider the intervals"
    )


def changes(told: Mapping[str, Any], old: Mapping[str, Any] | None) -> list[str]:
    """One line for each claim whose verdict changed or whose sign reversed against the committed ledger.

    Compared are claims of equal profile and seeds that both ledgers have a verdict on.
    """
    if old is None or old["profile"] != told["profile"]:
        return []
    before = {claim["id"]: claim for claim in old["claims"]}
    lines = []
    for claim in told["claims"]:
        was = before.get(claim["id"])
        if was is None or claims.NOT_MEASURED in (was["verdict"], claim["verdict"]) or was["seeds"] != claim["seeds"]:
            continue
        if was["verdict"] != claim["verdict"]:
            lines.append(f"{claim['id']}: verdict changed from {was['verdict']!r} to {claim['verdict']!r}")
        elif None not in (was["effect"], claim["effect"]) and was["effect"] * claim["effect"] < 0:
            lines.append(f"{claim['id']}: sign reversed from {was['effect']:+.3g} to {claim['effect']:+.3g}")
    return lines


def effect_text(claim: Mapping[str, Any]) -> str:
    """An effect with interval and counts, "+0.36 [+0.21, +0.51], n 5, 5 seeds"; empty where nothing was measured.

    A count, or what every seed gave alike, has no interval: "+16 (no spread), n 42, 5 seeds".
    """
    if claim["effect"] is None:
        return ""
    low, high = claim["interval"]
    seeds = "" if claim["seeds"] is None else f", {claim['seeds']} seeds"
    spread = f"[{low:+.3g}, {high:+.3g}]" if low < high else "(no spread)"
    return f"{claim['effect']:+.3g} {spread}, n {claim['n']}{seeds}"


def _counts(seeds: Iterable[int | None]) -> str:
    return " or ".join(str(count) for count in sorted({count or 0 for count in seeds}))


def _require_one_place(written: list[dict[str, Any]], stale: frozenset[str]) -> None:
    """Raises ValueError, naming both, where two notebooks measured one claim. What published facts decide is the same
    wherever it is said, so only an effect beside it is a measurement."""
    facts_decide = {id for id, claim in claims.everything().items() if claim.decided_by == claims.PUBLISHED_FACTS}
    first: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for fragment in written:
        for claim in fragment["claims"] if fragment["notebook"] not in stale else ():
            unmeasured = claim["verdict"] in (claims.NOT_MEASURED, claims.NOT_TESTABLE) or claim["id"] in facts_decide
            if claim["effect"] is None and unmeasured:
                continue
            notebook, other = first.setdefault(claim["id"], (fragment["notebook"], claim))
            if notebook != fragment["notebook"]:
                raise ValueError(
                    f"{claim['id']} is measured by two notebooks: {notebook} ({_said(other)}) and "
                    f"{fragment['notebook']} ({_said(claim)}). A claim has one place: take it out of one of them and "
                    f"run that again"
                )


def _said(claim: Mapping[str, Any]) -> str:
    return effect_text(claim) or claim["verdict"]


def lacking_text(item: Mapping[str, Any]) -> str:
    """What an item of the ledger lacks and why, "recomputed: released files not at hand"; empty where nothing is."""
    return "; ".join(f"{what}: {why}" for what, why in item["lacking"].items())


def _item(
    item: Item,
    profile: str,
    written: list[dict[str, Any]],
    stale: frozenset[str],
    old: Mapping[str, Any] | None,
    *,
    promoted: bool,
) -> dict[str, Any]:
    found = [
        (fragment["notebook"], entry) for fragment in written for entry in fragment["items"] if entry["id"] == item.id
    ]
    if not found:
        return _committed_item(item, old)
    notebook, entry = found[-1]
    shown = [_promoted(name) if promoted else f"build/{profile}/{name}" for name in entry["files"]]
    whole = all((paths.build_dir(profile) / name).is_file() for name in entry["files"])
    status = "partial" if entry["lacking"] else "ok"
    if notebook in stale:
        status = "stale"
    if not whole or not entry["present"]:
        status = "missing"
    return _told(item, status, shown, entry["present"], entry["lacking"])


def _committed_item(item: Item, old: Mapping[str, Any] | None) -> dict[str, Any]:
    """The committed entry of an item that the build lacks; missing where there is none or one of its files is gone."""
    entries = {entry["id"]: entry for entry in old["items"]} if old else {}
    entry = entries.get(item.id)
    if entry is None or not all((paths.project_root() / name).is_file() for name in entry["files"]):
        return _told(item, "missing", [], [], {})
    present, lacking = entry.get("present", list(item.kinds)), entry.get("lacking", {})  # not in older ledgers
    return _told(item, entry["status"], entry["files"], present, lacking)


def _told(item: Item, status: str, names: list[str], present: list[str], lacking: dict[str, str]) -> dict[str, Any]:
    """An item as the ledger tells it. kind: all that belong to it; present: those there; lacking: what else -> why."""
    told = {"id": item.id, "kind": item.kind, "status": status, "files": names}
    return told | {"present": [kind for kind in item.kinds if kind in present], "lacking": lacking}


def _claim(
    id: str, written: list[dict[str, Any]], stale: frozenset[str], old: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The verdict of a fresh notebook, else the last of a stale one, else the committed one; one with an effect goes
    before one without, which the notebook of all statements writes."""
    found = [
        (fragment["notebook"] not in stale, claim["effect"] is not None, place, claim)
        for place, fragment in enumerate(written)
        for claim in fragment["claims"]
        if claim["id"] == id and claim["verdict"] != claims.NOT_MEASURED
    ]
    before = [claim for claim in (old["claims"] if old else []) if claim["id"] == id]
    unmeasured = {"id": id, "verdict": claims.NOT_MEASURED, "effect": None, "interval": None, "n": None, "seeds": None}
    newest = max(found, key=lambda one: one[:3], default=None)
    claim = newest[3] if newest else before[0] if before else unmeasured
    return {key: claim[key] for key in CLAIM_KEYS}


def _committed_for(profile: str) -> dict[str, Any] | None:
    """The committed ledger as far as it speaks for `profile`."""
    old = committed()
    if old is None or old["profile"] == profile:
        return old
    kept = [entry for entry in old["items"] if "retrained" not in entry["kind"].split("+")]
    nothing = dict.fromkeys(("effect", "interval", "n", "seeds"))
    facts_decide = {id for id, claim in claims.everything().items() if claim.decided_by == claims.PUBLISHED_FACTS}
    lasting = [
        claim if claim["seeds"] is None else claim | nothing  # the verdict stands, the effect is another profile's
        for claim in old["claims"]
        if claim["seeds"] is None or claim["id"] in facts_decide
    ]
    return {**old, "items": kept, "claims": lasting}


def _seeds(written: list[dict[str, Any]], old: Mapping[str, Any] | None) -> int | None:
    """The count of seeds of this build, the smallest where notebooks ran with several; else the committed one."""
    if written:
        return min(fragment["seeds"] for fragment in written)
    return old["seeds"] if old else None


def _promoted(name: str) -> str:
    """build's figures/zephyr/tab1.svg and tables/zephyr/tab1.csv both lie in figures/zephyr/ once committed."""
    return str(Path("figures", *Path(name).parts[1:]))


_ID = re.compile(r"[a-z0-9_]+/[a-z0-9_]+")


def require_id(id: str) -> str:
    """`id` itself. Raises ValueError for anything but paper/name, so that no file lands elsewhere."""
    if not _ID.fullmatch(id):
        raise ValueError(f"an id is paper/name in small letters, digits and _, such as 'zephyr/tab1'; got {id!r}")
    return id
