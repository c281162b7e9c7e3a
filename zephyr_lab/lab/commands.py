"""What `zephyr-lab list`, `run` and `doctor` say: the state of notebooks, how a run came out, is this machine fit."""

import shutil
import sys
import tempfile
from collections import Counter
from importlib import metadata
from typing import Any

from zephyr_lab.core import files, paths, provenance
from zephyr_lab.core.profiles import require_profile
from zephyr_lab.engine import freshness, run_records
from zephyr_lab.engine.notebooks import all_notebooks
from zephyr_lab.engine.runner import Outcome
from zephyr_lab.reporting import ledger
from zephyr_lab.reporting.claims import VERDICTS
from zephyr_lab.reporting.ledger import finding_word

LEAST_MEMORY_GIB = 4.0  # two workers with torch, a kernel, and room
LEAST_DISK_GIB = 2.0


def notebooks(profile: str) -> list[dict[str, Any]]:
    """One row a notebook: number, title, state (fresh, stale with the reason, not run), seeds, last seconds."""
    require_profile(profile)
    rows = []
    for notebook in all_notebooks():
        record = run_records.load(profile, notebook.name)
        why = freshness.reasons(notebook, record["parameters"]) if record else []
        state = "not run" if record is None else f"stale: {why[0]}" if why else "fresh"
        last = {name: record[name] if record else None for name in ("seeds", "seconds")}
        rows.append({"notebook": notebook.name, "title": notebook.title, "state": state, **last})
    return rows


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """The outcome of one notebook as plain JSON."""
    return {
        "notebook": outcome.notebook.name,
        "state": outcome.state,
        "seconds": round(outcome.seconds, 1),
        "error": outcome.error or None,
        "products": sorted(outcome.record.get("products", {})),
    }


def run_lines(outcomes: list[Outcome]) -> list[str]:
    """What `zephyr-lab run` says at its end: a line a notebook, its findings, the sums.

    The verdicts are those that the ledger has on the claims of these notebooks; where it refuses, why.
    """
    fragments = [_fragment(outcome) for outcome in outcomes]
    lines, findings = [], []
    for outcome, fragment in zip(outcomes, fragments, strict=True):
        lines.append(_outcome_line(outcome))
        findings += fragment.get("findings", [])
        if outcome.state == "ran":
            lines += [f"  {_finding_line(finding)}" for finding in fragment.get("findings", [])]
    compared = [finding for finding in findings if finding.get("published") is not None]
    states = Counter(outcome.state for outcome in outcomes)
    parts = [f"{len(outcomes)} notebook{'s' if len(outcomes) != 1 else ''}, {states['ran']} run"]
    if compared:
        differing = sum(not finding["agrees"] for finding in compared)
        parts.append(f"{differing} of {len(compared)} printed numbers differ from ours")
    verdicts, seeds = _verdicts(outcomes, {claim["id"] for one in fragments for claim in one.get("claims", [])})
    if verdicts:
        parts.append(f"claims: {verdicts}")
    total = "; ".join(parts) + (" (recorded, never an error)" if compared or verdicts else "")
    exact = sum(len(fragment.get("exact", [])) for fragment in fragments)
    integrity = f"{states['failed']} failed" if states["failed"] else f"Integrity: {exact} exact checks hold"
    return [*lines, f"{total}. {integrity}.", *([f"{seeds}."] if seeds else [])]


def _verdicts(outcomes: list[Outcome], ids: set[str]) -> tuple[str, str]:
    """The ledger's verdicts on claims of these notebooks, counted; and its line on other counts of seeds."""
    profiles = {outcome.record["profile"] for outcome in outcomes if outcome.record}
    if len(profiles) != 1 or not ids:
        return "", ""
    (profile,) = profiles
    try:
        collected = ledger.collect(profile, stale=freshness.stale_notebooks(profile))
    except ValueError as error:  # said here, with the run; `zephyr-lab check` stops at it
        return "", str(error)
    collected["claims"] = [claim for claim in collected["claims"] if claim["id"] in ids]
    counts = Counter(claim["verdict"] for claim in collected["claims"])
    shown = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return shown, ledger.other_seeds(collected, ledger.committed())


def _outcome_line(outcome: Outcome) -> str:
    name = outcome.notebook.name
    if outcome.state == "failed":
        return f"{name}  FAILED  {outcome.error}"
    if outcome.state == "fresh":
        return f"{name}  fresh"
    items = _items(outcome.record["products"])
    profile = outcome.record["profile"]
    wrote = f"  wrote build/{profile}/{{{', '.join(items)}}}" if items else ""
    return f"{name}  {outcome.seconds:.0f} s{wrote}"


def _items(products: dict[str, str]) -> list[str]:
    """figures/zephyr/tab1.{csv,svg,png} and the like: products of one name in one word."""
    groups: dict[str, list[str]] = {}
    for path in sorted(products):
        stem, _, ending = path.rpartition(".")
        if path.startswith(("figures/", "tables/")):
            groups.setdefault(stem, []).append(ending)
    return [f"{stem}.{{{','.join(e)}}}" if len(e) > 1 else f"{stem}.{e[0]}" for stem, e in groups.items()]


def _fragment(outcome: Outcome) -> dict[str, Any]:
    if outcome.state == "failed" or not outcome.record:
        return {}
    path = paths.build_dir(outcome.record["profile"]) / "ledger" / f"{outcome.notebook.name}.json"
    return files.read_json(path) if path.is_file() else {}


def _finding_line(finding: dict[str, Any]) -> str:
    """`agrees  MPT-Chat: 5.46 [4.76, 6.16], published 5.42 (Table 1)`, or `noted` where nothing is published."""
    interval = finding.get("interval")
    shown = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    ours = f"{finding['what']}: {finding['ours']:.2f}{shown}"
    source = f" ({finding['source']})" if finding.get("source") else ""
    theirs = "" if finding.get("published") is None else f", published {finding['published']}"
    return f"{finding_word(finding):7}  {ours}{theirs}{source}"


def examine(profile: str) -> list[dict[str, Any]]:
    """Findings {"what", "found", "state": ok|note|wrong, "advice"}; every "wrong" names what to do."""
    require_profile(profile)
    return [
        _python(),
        *_versions(),
        _finding("cores", provenance.available_cores()),
        _memory(),
        _disk(),
        _gpu(profile),
        _writable(),
        _data(),
    ]


def _finding(what: str, found: object, advice: str = "", state: str = "wrong") -> dict[str, Any]:
    """A finding that is fine where there is nothing to advise, else of `state`."""
    return {"what": what, "found": str(found), "state": state if advice else "ok", "advice": advice}


def _python() -> dict[str, Any]:
    old = sys.version_info < (3, 11)
    return _finding("python", ".".join(map(str, sys.version_info[:3])), "use Python 3.11 or newer" if old else "")


def _versions() -> list[dict[str, Any]]:
    """Each package of the lock that this lab names, against what is installed."""
    lock = paths.project_root() / "constraints.txt"
    if not lock.is_file():
        return [_finding("lock", "constraints.txt is absent", "make lock", "note")]
    wanted = dict(line.strip().split("==") for line in lock.read_text().splitlines() if "==" in line)
    findings = []
    for name in provenance.NAMED_PACKAGES:
        try:
            installed = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            findings.append(_finding(name, "missing", "make setup"))
            continue
        same = wanted.get(name) in (None, installed)
        advice = "" if same else f"the committed figures were made with {wanted[name]} (make setup)"
        findings.append(_finding(name, installed, advice, "note"))
    return findings


def _memory() -> dict[str, Any]:
    gib = provenance.memory_bytes() / 2**30
    return _finding("memory", f"{gib:.1f} GiB", "run with ZEPHYR_LAB_SLOTS=1" if gib < LEAST_MEMORY_GIB else "", "note")


def _disk() -> dict[str, Any]:
    gib = shutil.disk_usage(paths.project_root()).free / 2**30
    return _finding("disk free", f"{gib:.1f} GiB", "free some space" if gib < LEAST_DISK_GIB else "")


def _gpu(profile: str) -> dict[str, Any]:
    cards = provenance.gpus()
    needed = not cards and profile in ("world-gpu", "gpu", "paper")
    advice = f"profile {profile} needs one; smoke and tiny do not" if needed else ""
    return _finding("gpu", "; ".join(cards) or "none", advice)


def _writable() -> dict[str, Any]:
    try:
        with tempfile.TemporaryFile(dir=paths.project_root()):
            return _finding("checkout", "writable")
    except OSError as error:
        return _finding("checkout", f"not writable: {error.strerror}", "clone into a folder of your own")


def _data() -> dict[str, Any]:
    """Released judgements at hand. A missing folder is a note: the rest of the lab needs none."""
    from zephyr_lab.data import released

    rows = released.listing()
    present = sum(row.found != "absent" for row in rows)
    advice = "" if present else "set ZEPHYR_LAB_DATA to a folder of released files (zephyr-lab list data)"
    return _finding("released files", f"{present} of {len(rows)}", advice, "note")
