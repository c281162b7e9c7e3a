"""What to tell people about notebooks: their state, and how a run came out."""

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


def notebooks(profile: str) -> list[dict[str, Any]]:
    """One row a notebook: number, title, state (fresh, stale with the reason, not run), seeds, last seconds."""
    require_profile(profile)
    rows = []
    for notebook in all_notebooks():
        record = run_records.load(profile, notebook.name)
        why = freshness.reasons(notebook, record["parameters"]) if record else []
        state = "not run" if record is None else f"stale: {why[0]}" if why else "fresh"
        rows.append(
            {
                "notebook": notebook.name,
                "title": notebook.title,
                "state": state,
                "seeds": record["seeds"] if record else None,
                "seconds": record["seconds"] if record else None,
            }
        )
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
    lines, findings, exact = [], [], 0
    for outcome in outcomes:
        lines.append(_outcome_line(outcome))
        fragment = _fragment(outcome)
        found = fragment.get("findings", [])
        if outcome.state == "ran":
            lines += [f"  {_finding_line(finding)}" for finding in found]
        findings += found
        exact += len(fragment.get("exact", []))
    compared = [finding for finding in findings if finding.get("published") is not None]
    differing = sum(not finding["agrees"] for finding in compared)
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    ran = sum(outcome.state == "ran" for outcome in outcomes)
    total = f"{len(outcomes)} notebook{'s' if len(outcomes) != 1 else ''}, {ran} run"
    if compared:
        total += f"; {differing} of {len(compared)} printed numbers differ from ours"
    verdicts, seeds = _verdicts(outcomes)
    if verdicts:
        total += f"; claims: {verdicts}"
    if compared or verdicts:
        total += " (recorded, never an error)"
    integrity = f"{failed} failed" if failed else f"Integrity: {exact} exact checks hold"
    return [*lines, f"{total}. {integrity}.", *([f"{seeds}."] if seeds else [])]


def _verdicts(outcomes: list[Outcome]) -> tuple[str, str]:
    """The ledger's verdicts on the claims of these notebooks, counted; and its line on other counts of seeds."""
    profiles = {outcome.record["profile"] for outcome in outcomes if outcome.record}
    if len(profiles) != 1:
        return "", ""
    (profile,) = profiles
    ids = {claim["id"] for outcome in outcomes for claim in _fragment(outcome).get("claims", [])}
    if not ids:
        return "", ""
    try:
        told = ledger.collect(profile, stale=freshness.stale_notebooks(profile))
    except ValueError as error:  # said here, where the run is told; `zephyr-lab check` stops at it
        return "", str(error)
    told["claims"] = [claim for claim in told["claims"] if claim["id"] in ids]
    counts = Counter(claim["verdict"] for claim in told["claims"])
    shown = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return shown, ledger.other_seeds(told, ledger.committed())


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


LEAST_MEMORY_GIB = 4.0  # two workers with torch, a kernel, and room
LEAST_DISK_GIB = 2.0


def examine(profile: str) -> list[dict[str, Any]]:
    """Findings {"what", "found", "state": ok|note|wrong, "advice"}; every "wrong" names what to do."""
    require_profile(profile)
    return [
        _python(),
        *_versions(),
        _finding("cores", provenance.available_cores(), "ok"),
        _memory(),
        _disk(),
        _gpu(profile),
        _writable(),
        _data(),
    ]


def _finding(what: str, found: object, state: str, advice: str = "") -> dict[str, Any]:
    return {"what": what, "found": str(found), "state": state, "advice": advice}


def _python() -> dict[str, Any]:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return _finding("python", found, "ok" if good else "wrong", "" if good else "use Python 3.11 or newer")


def _versions() -> list[dict[str, Any]]:
    """Each package of the lock that this lab names, against what is installed."""
    lock = paths.project_root() / "constraints.txt"
    if not lock.is_file():
        return [_finding("lock", "constraints.txt is absent", "note", "make lock")]
    wanted = dict(line.strip().split("==") for line in lock.read_text().splitlines() if "==" in line)
    findings = []
    for name in provenance.NAMED_PACKAGES:
        try:
            found = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            findings.append(_finding(name, "missing", "wrong", "make setup"))
            continue
        same = wanted.get(name) in (None, found)
        advice = "" if same else f"the committed figures were made with {wanted[name]} (make setup)"
        findings.append(_finding(name, found, "ok" if same else "note", advice))
    return findings


def _memory() -> dict[str, Any]:
    gib = provenance.memory_bytes() / 2**30
    good = gib >= LEAST_MEMORY_GIB
    return _finding("memory", f"{gib:.1f} GiB", "ok" if good else "note", "" if good else "run with ZEPHYR_LAB_SLOTS=1")


def _disk() -> dict[str, Any]:
    gib = shutil.disk_usage(paths.project_root()).free / 2**30
    good = gib >= LEAST_DISK_GIB
    return _finding("disk free", f"{gib:.1f} GiB", "ok" if good else "wrong", "" if good else "free some space")


def _gpu(profile: str) -> dict[str, Any]:
    cards = provenance.gpus()
    if cards:
        return _finding("gpu", "; ".join(cards), "ok")
    needed = profile in ("world-gpu", "gpu", "paper")
    advice = f"profile {profile} needs one; smoke and tiny do not" if needed else ""
    return _finding("gpu", "none", "wrong" if needed else "ok", advice)


def _writable() -> dict[str, Any]:
    try:
        with tempfile.TemporaryFile(dir=paths.project_root()):
            return _finding("checkout", "writable", "ok")
    except OSError as error:
        return _finding("checkout", f"not writable: {error.strerror}", "wrong", "clone into a folder of your own")


def _data() -> dict[str, Any]:
    """Released judgements at hand. A missing folder is a note: the rest of the lab needs none."""
    from zephyr_lab.data import released

    rows = released.listing()
    found = sum(row.found != "absent" for row in rows)
    advice = "" if found else "set ZEPHYR_LAB_DATA to a folder of released files (zephyr-lab list data)"
    return _finding("released files", f"{found} of {len(rows)}", "ok" if found else "note", advice)
