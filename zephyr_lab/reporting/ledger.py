"""The ledger: every item with its status and every claim with its verdict, from what notebooks wrote.

`check` writes one fragment a notebook below build/<profile>/ledger/; `collect` joins them, and takes what the build
lacks from the committed figures/ledger.json. Whether a notebook is stale is for the lab to know; it is passed in.
A ledger says its version; one without is of the first, which knew no p-values.
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
from zephyr_lab.reporting import claims, precision
from zephyr_lab.scoring.intervals import Estimate, Interval
from zephyr_lab.scoring.p_values import holm

KINDS = ("recomputed", "retrained", "quoted")
VERSION = 2
CLAIM_KEYS = ("id", "verdict", "effect", "interval", "n", "seeds", *precision.KEYS)
_ID = re.compile(r"[a-z0-9_]+/[a-z0-9_]+")


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


def require_id(id: str) -> str:
    """`id` itself. Raises ValueError for anything but paper/name, so that no file lands elsewhere."""
    if not _ID.fullmatch(id):
        raise ValueError(f"an id is paper/name in small letters, digits and _, such as 'zephyr/tab1'; got {id!r}")
    return id


def fragments(profile: str) -> list[dict[str, Any]]:
    """What the notebooks of this checkout wrote at `profile`, in the order of their numbers.

    Fragments of notebooks that are gone, and of interactive sessions, do not count.
    """
    names = {path.stem for path in paths.notebooks_dir().glob("*.ipynb")}
    written = sorted((paths.build_dir(profile) / "ledger").glob("*.json"))
    return [files.read_json(path) for path in written if path.stem in names]


def committed() -> dict[str, Any] | None:
    """The ledger that was promoted with the figures; None before the first `make figures`.

    Raises ValueError for a ledger of a later version than this one can read.
    """
    path = paths.figures_dir() / "ledger.json"
    session.read_file(path, name="figures/ledger.json")
    if not path.is_file():
        return None
    content = files.read_json(path)
    version = content.get("version", 1)
    if version not in range(1, VERSION + 1):
        raise ValueError(
            f"figures/ledger.json is of version {version!r}, this zephyr_lab reads 1 to {VERSION}: "
            f"update the checkout, or write it again with make figures"
        )
    return content


def collect(profile: str, *, stale: Iterable[str] = (), committed: bool = True) -> dict[str, Any]:
    """The ledger of `profile`, in the form that `zephyr-lab check --json` prints.

    stale: notebooks whose products are out of date. What build/<profile>/ lacks comes from the committed ledger; one of
    another profile gives only what no profile changes: items without a retrained column, claims not measured over
    seeds. `committed=False` gives the ledger for figures/: of the build alone, its files under the names they are
    promoted to. p_holm of a claim is over all claims of the ledger that have a p, whose number is `tests`. Raises
    ValueError where two notebooks, neither of them stale, measured one claim.
    """
    require_profile(profile)
    stale = frozenset(stale)
    written, old = fragments(profile), _committed_for(profile) if committed else None
    _require_one_place(written, stale)
    seeds = min((fragment["seeds"] for fragment in written), default=old["seeds"] if old else None)
    decided = [_claim(id, written, stale, old) for id in claims.everything()]
    tested = [claim for claim in decided if claim["p"] is not None]
    adjusted = dict(zip((claim["id"] for claim in tested), holm([claim["p"] for claim in tested]), strict=True))
    return {
        "profile": profile,
        "seeds": seeds,
        "source": "build" if written and committed else "figures",
        "items": [_item(item, profile, written, stale, old, promoted=not committed) for item in items().values()],
        "claims": [claim | {"p_holm": adjusted.get(claim["id"])} for claim in decided],
        "tests": len(tested),
        "version": VERSION,
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


def other_seeds(ledger: Mapping[str, Any], old: Mapping[str, Any] | None) -> str:
    """One line on verdicts that differ from the committed ones of the same profile at another count of seeds; empty
    where there are none. `changes` names those at equal seeds."""
    differing = [
        (claim, was)
        for claim, was in _both_decided(ledger, old)
        if claim["verdict"] != was["verdict"] and claim["seeds"] != was["seeds"]
    ]
    if not differing:
        return ""
    ours, theirs = (
        " or ".join(map(str, sorted({claim["seeds"] or 0 for claim in side}))) for side in zip(*differing, strict=True)
    )
    ids = ", ".join(claim["id"] for claim, _ in differing)
    verdicts = "1 verdict differs" if len(differing) == 1 else f"{len(differing)} verdicts differ"
    return (
        f"{verdicts} from the committed at {theirs} seeds ({ids}); "
        f"this run has {ours}, and the fewer the seeds, the wider the intervals"
    )


def changes(ledger: Mapping[str, Any], old: Mapping[str, Any] | None) -> list[str]:
    """One line for each claim whose verdict changed or whose sign reversed against the committed ledger.

    Compared are claims of equal profile and seeds that both ledgers have a verdict on.
    """
    lines = []
    for claim, was in _both_decided(ledger, old):
        if was["seeds"] != claim["seeds"]:
            continue
        if was["verdict"] != claim["verdict"]:
            lines.append(f"{claim['id']}: verdict changed from {was['verdict']!r} to {claim['verdict']!r}")
        elif None not in (was["effect"], claim["effect"]) and was["effect"] * claim["effect"] < 0:
            lines.append(f"{claim['id']}: sign reversed from {was['effect']:+.3g} to {claim['effect']:+.3g}")
    return lines


def as_json(effect: Estimate | None) -> dict[str, Any]:
    """An effect as the ledger keeps it: effect, interval, n and seeds, null where nothing was measured; `effect` reads
    it back."""
    if effect is None:
        return dict.fromkeys(("effect", "interval", "n", "seeds"))
    interval = None if effect.interval is None else list(effect.interval)
    return {"effect": effect.value, "interval": interval, "n": effect.n, "seeds": effect.seeds}


def effect(claim: Mapping[str, Any]) -> Estimate | None:
    """The effect of a claim of the ledger; None where nothing was measured."""
    if claim["effect"] is None:
        return None
    return Estimate(claim["effect"], Interval(*claim["interval"]), claim["n"], seeds=claim["seeds"])


def effect_text(claim: Mapping[str, Any]) -> str:
    """An effect with interval and counts, "+0.36 [+0.21, +0.51], n 5, 5 seeds, one teacher"; empty where nothing was
    measured.

    A count, or what every seed gave alike, has no interval: "+16 (no spread), n 42, 5 seeds".
    """
    measured = effect(claim)
    if measured is None:
        return ""
    shown = f"{measured.text('+.3g')}{'' if measured.spread else ' (no spread)'}, {measured.counts}"
    return f"{shown}, {claim['one']}" if claim.get("one") else shown


def verdict_text(claim: Mapping[str, Any], known: Mapping[str, claims.Claim]) -> str:
    """`reproduced, built in` where the world or the construction decides a measured verdict, else the verdict."""
    stated = known.get(claim["id"])
    built_in = stated is not None and stated.built_in and claim["verdict"] in claims.MEASURED_VERDICTS
    return f"{claim['verdict']}, built in" if built_in else claim["verdict"]


def p_text(claim: Mapping[str, Any]) -> str:
    """`p 0.003, Holm 0.04`, of the claim at its edge; empty where it is no test."""
    if claim.get("p") is None:
        return ""
    single, among_all = ("< 0.0001" if p < 1e-4 else f"{p:.2g}" for p in (claim["p"], claim.get("p_holm", 1.0)))
    return f"p {single}, Holm {among_all}"


def half_width_text(claim: Mapping[str, Any]) -> str:
    """`0.15, needs 0.1: about 9 seeds in place of 5`, what a larger run takes beside open verdicts alone; empty where
    nothing was measured, or the margin is 0."""
    if claim.get("needs") is None or claim.get("half_width") is None:
        return ""
    state = "reached" if claim["reached"] else claim["more"] or "not reached"
    return f"{claim['half_width']:.2g}, needs {claim['needs']:g}: {state}"


def lacking_text(item: Mapping[str, Any]) -> str:
    """What an item of the ledger lacks and why, "recomputed: released files not at hand"; empty where nothing is."""
    return "; ".join(f"{what}: {why}" for what, why in item["lacking"].items())


def _both_decided(
    ledger: Mapping[str, Any], old: Mapping[str, Any] | None
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """(this claim, the committed one) of each claim with a verdict in two ledgers of one profile."""
    if old is None or old["profile"] != ledger["profile"]:
        return []
    before = {claim["id"]: claim for claim in old["claims"]}
    pairs = [(claim, before[claim["id"]]) for claim in ledger["claims"] if claim["id"] in before]
    return [pair for pair in pairs if claims.NOT_MEASURED not in (pair[0]["verdict"], pair[1]["verdict"])]


def _facts_decide() -> set[str]:
    return {id for id, claim in claims.everything().items() if claim.decided_by == claims.PUBLISHED_FACTS}


def _require_one_place(written: list[dict[str, Any]], stale: frozenset[str]) -> None:
    """Raises ValueError, naming both, where two notebooks measured one claim. What published facts decide is the same
    wherever it is said, so only an effect beside it is a measurement."""
    facts_decide = _facts_decide()
    first: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for fragment in written:
        for claim in fragment["claims"] if fragment["notebook"] not in stale else ():
            unmeasured = claim["verdict"] in (claims.NOT_MEASURED, claims.NOT_TESTABLE) or claim["id"] in facts_decide
            if claim["effect"] is None and unmeasured:
                continue
            notebook, other = first.setdefault(claim["id"], (fragment["notebook"], claim))
            if notebook != fragment["notebook"]:
                raise ValueError(
                    f"{claim['id']} is measured by two notebooks: {notebook} "
                    f"({effect_text(other) or other['verdict']}) and {fragment['notebook']} "
                    f"({effect_text(claim) or claim['verdict']}). A claim has one place: take it out of one of them "
                    f"and run that again"
                )


def _item(
    item: Item,
    profile: str,
    written: list[dict[str, Any]],
    stale: frozenset[str],
    old: Mapping[str, Any] | None,
    *,
    promoted: bool,
) -> dict[str, Any]:
    """An item's entry: `kind` is all that belongs to it, `present` what it shows, `lacking` what is not and why."""
    entries = [
        (fragment["notebook"], entry) for fragment in written for entry in fragment["items"] if entry["id"] == item.id
    ]
    if not entries:
        entry, status = _committed_item(item, old)
        names = entry["files"]
    else:
        notebook, entry = entries[-1]
        names = [_promoted(name) if promoted else f"build/{profile}/{name}" for name in entry["files"]]
        status = "stale" if notebook in stale else "partial" if entry["lacking"] else "ok"
        if not entry["present"] or not all((paths.build_dir(profile) / name).is_file() for name in entry["files"]):
            status = "missing"
    return {
        "id": item.id,
        "kind": item.kind,
        "status": status,
        "files": names,
        "present": [kind for kind in item.kinds if kind in entry["present"]],
        "lacking": entry["lacking"],
    }


def _committed_item(item: Item, old: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], str]:
    """The committed entry of an item that the build lacks, and its status; missing where there is none or one of its
    files is gone."""
    for entry in old["items"] if old else ():
        if entry["id"] == item.id and all((paths.project_root() / name).is_file() for name in entry["files"]):
            return {"present": item.kinds, "lacking": {}, **entry}, entry["status"]  # older ledgers lack both
    return {"files": [], "present": [], "lacking": {}}, "missing"


def _claim(
    id: str, written: list[dict[str, Any]], stale: frozenset[str], old: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The verdict of a fresh notebook, else the last of a stale one, else the committed one; one with an effect goes
    before one without, which the notebook of all statements writes."""
    decided = [
        (fragment["notebook"] not in stale, claim["effect"] is not None, place, claim)
        for place, fragment in enumerate(written)
        for claim in fragment["claims"]
        if claim["id"] == id and claim["verdict"] != claims.NOT_MEASURED
    ]
    before = [claim for claim in (old["claims"] if old else []) if claim["id"] == id]
    unmeasured = {"id": id, "verdict": claims.NOT_MEASURED, **as_json(None)}
    newest = max(decided, key=lambda one: one[:3], default=None)
    claim = newest[3] if newest else before[0] if before else unmeasured
    return {key: claim.get(key) for key in CLAIM_KEYS}


def _committed_for(profile: str) -> dict[str, Any] | None:
    """The committed ledger as far as it speaks for `profile`."""
    old = committed()
    if old is None or old["profile"] == profile:
        return old
    facts_decide = _facts_decide()
    lasting = [
        # the verdict holds, the effect is another profile's
        claim if claim["seeds"] is None else claim | as_json(None) | dict.fromkeys(precision.KEYS)
        for claim in old["claims"]
        if claim["seeds"] is None or claim["id"] in facts_decide
    ]
    return {**old, "items": [one for one in old["items"] if "retrained" not in one["kind"]], "claims": lasting}


def _promoted(name: str) -> str:
    """build's figures/zephyr/tab1.svg and tables/zephyr/tab1.csv are both in figures/zephyr/ once committed."""
    return str(Path("figures", *Path(name).parts[1:]))
