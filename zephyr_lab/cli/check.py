"""`zephyr-lab check`: the ledger, published | committed | yours, for people or as JSON."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from zephyr_lab.cli.printing import Json, Profile, print_json

FILE_WIDTH = 140  # columns where the output goes to a file or a pipe


def check(
    profile: Profile = "tiny",
    json: Json = False,
    csv: Annotated[Path | None, typer.Option(help="write the claims as a table to this file")] = None,
    markdown: Annotated[Path | None, typer.Option(help="write the ledger as one page to this file")] = None,
) -> None:
    """Show every item with its status and every claim with its verdict.

    Exit code 1 where an exact check failed, or where at equal profile and seeds a verdict changed or a sign reversed
    against the committed ledger; 0 otherwise: a difference from a paper is a finding, not a failure. Verdicts that
    differ at another count of seeds are one line: fewer seeds give wider intervals.
    """
    from zephyr_lab.core import files
    from zephyr_lab.core.profiles import require_profile
    from zephyr_lab.engine.freshness import stale_notebooks
    from zephyr_lab.engine.run_records import all_records, kept_lines
    from zephyr_lab.reporting import ledger, ledger_export

    require_profile(profile)
    stale = stale_notebooks(profile)
    own, committed = ledger.collect(profile, stale=stale), ledger.committed()
    for path, text in ((csv, ledger_export.csv_text), (markdown, ledger_export.markdown_text)):
        if path:
            files.write_text(path, text(own))
    if json:
        print_json(own)
    else:
        _show(own, committed)
        for line in kept_lines(all_records(profile)):
            print(line)
    failures = [f"integrity: {line}" for line in ledger.integrity_failures(profile)]
    failures += [f"against the committed ledger: {line}" for line in ledger.changes(own, committed)]
    for line in failures:
        print(line, file=sys.stderr)
    if failures:
        raise typer.Exit(1)


def _show(own: dict[str, Any], committed: dict[str, Any] | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from zephyr_lab.reporting import claims, ledger

    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH, markup=False, highlight=False)
    before = {entry["id"]: entry for section in ("items", "claims") for entry in (committed or {}).get(section, ())}
    heading = f"committed\n{committed['profile']}, {committed['seeds']} seeds" if committed else "committed"
    items, stated = ledger.items(), claims.everything()
    table = Table("item", "title", "kinds that are there", heading, "yours", title="Items", title_justify="left")
    for item in own["items"]:
        old = before.get(item["id"])
        kinds = "+".join(item["present"]) or "–"
        yours = "as committed" if old and old == {name: item[name] for name in old} else item["status"]
        table.add_row(item["id"], items[item["id"]].title, kinds, old["status"] if old else "–", yours)
    console.print(table)
    for item in own["items"]:
        if item["lacking"]:
            console.print(f"{item['id']} lacks {ledger.lacking_text(item)}")
    table = Table("claim", "statement", "published", heading, "yours", title="Claims", title_justify="left")
    for claim in own["claims"]:
        old, known = before.get(claim["id"]), stated[claim["id"]]
        yours = "as committed" if old and old == {name: claim[name] for name in old} else _verdict(claim)
        table.add_row(claim["id"], known.statement, known.published or "–", _verdict(old) if old else "–", yours)
    console.print(table)
    console.print(_summary(own))
    if seeds := ledger.other_seeds(own, committed):
        console.print(f"{seeds}.")


def _verdict(claim: dict[str, Any]) -> str:
    from zephyr_lab.reporting import claims
    from zephyr_lab.reporting.ledger import effect_text, p_text, verdict_text

    part = f"part: {claim['part']}" if claim.get("part") else ""
    return "\n".join(filter(None, (verdict_text(claim, claims.everything()), effect_text(claim), p_text(claim), part)))


def _summary(own: dict[str, Any]) -> str:
    seeds = "no seeds yet" if own["seeds"] is None else f"{own['seeds']} seeds"
    origin = "from your build" if own["source"] == "build" else "from the committed figures"
    items = Counter(item["status"] for item in own["items"])
    verdicts = Counter(claim["verdict"] for claim in own["claims"])
    counts = [
        f"{counter.total()} {name}: " + ", ".join(f"{count} {value}" for value, count in counter.most_common())
        for name, counter in (("items", items), ("claims", verdicts))
    ]
    tests = f"p is of an effect at the margin, Holm's over {own['tests']} tests"
    return "\n".join([f"profile {own['profile']}, {seeds}, {origin}", *counts, *([tests] if own["tests"] else [])])
