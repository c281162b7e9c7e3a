"""What to tell people about notebooks: their state, and how a run came out."""

from collections import Counter
from typing import Any

from zephyr_lab.core import files, paths
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
