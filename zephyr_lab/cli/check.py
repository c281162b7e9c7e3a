"""`zephyr-lab check`: the ledger, published | committed | yours, for people or as JSON."""

import json as to_json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

FILE_WIDTH = 140  # columns where the output goes to a file or a pipe


def check(
    profile: Annotated[str, typer.Option(help="smoke, tiny, world-gpu, gpu or paper")] = "tiny",
    json: Annotated[bool, typer.Option("--json", help="print the ledger as JSON only")] = False,
) -> None:
    """Show every item with its status and every claim with its verdict.

    Exit code 1 where an exact check failed, or where at equal profile and seeds a verdict changed or a sign reversed
    against the committed ledger; 0 otherwise: a difference from a paper is a finding, not a failure. Verdicts that
    differ at another count of seeds are told in a line: fewer seeds give wider intervals.
    """
    from zephyr_lab.core.profiles import require_profile
    from zephyr_lab.engine.freshness import stale_notebooks
    from zephyr_lab.engine.run_records import all_records, kept_lines
    from zephyr_lab.reporting import ledger

    require_profile(profile)
    stale = stale_notebooks(profile)
    told, committed = ledger.collect(profile, stale=stale), ledger.committed()
    if json:
        print(to_json.dumps(told, indent=1, ensure_ascii=False))
    else:
        _show(told, committed)
        for line in kept_lines(all_records(profile)):
            print(line)
    failures = [f"integrity: {line}" for line in ledger.integrity_failures(profile)]
    failures += [f"against the committed ledger: {line}" for line in ledger.changes(told, committed)]
    for line in failures:
        print(line, file=sys.stderr)
    if failures:
        raise typer.Exit(1)


def _show(told: dict[str, Any], committed: dict[str, Any] | None) -> None:
    from rich.console import Console

    from zephyr_lab.reporting import ledger

    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH, markup=False)
    before = committed or {"items": [], "claims": []}
    heading = f"committed\n{before['profile']}, {before['seeds']} seeds" if committed else "committed"
    console.print(_items(told, {item["id"]: item for item in before["items"]}, heading))
    for line in _lacking(told):
        console.print(line, highlight=False)
    console.print(_claims(told, {claim["id"]: claim for claim in before["claims"]}, heading))
    console.print(_summary(told), highlight=False)
    seeds = ledger.other_seeds(told, committed)
    if seeds:
        console.print(f"{seeds}.", highlight=False)


def _items(told: dict[str, Any], before: dict[str, Any], heading: str) -> "Table":
    from rich.table import Table

    from zephyr_lab.reporting import ledger

    table = Table("item", "title", "kinds that are there", heading, "yours", title="Items", title_justify="left")
    known = ledger.items()
    for item in told["items"]:
        old = before.get(item["id"])
        kinds = "+".join(item["present"]) or "–"
        shown = _yours({name: item[name] for name in old or item}, old, item["status"])
        table.add_row(item["id"], known[item["id"]].title, kinds, old["status"] if old else "–", shown)
    return table


def _lacking(told: dict[str, Any]) -> list[str]:
    """One line for each item that lacks something: what, and why."""
    from zephyr_lab.reporting import ledger

    return [f"{item['id']} lacks {ledger.lacking_text(item)}" for item in told["items"] if item["lacking"]]


def _claims(told: dict[str, Any], before: dict[str, Any], heading: str) -> "Table":
    from rich.table import Table

    from zephyr_lab.reporting import claims

    table = Table("claim", "statement", "published", heading, "yours", title="Claims", title_justify="left")
    known = claims.everything()
    for claim in told["claims"]:
        stated = known[claim["id"]]
        old = before.get(claim["id"])
        shown = _yours(claim, old, _verdict(claim))
        table.add_row(claim["id"], stated.statement, stated.published or "–", _verdict(old) if old else "–", shown)
    return table


def _yours(entry: dict[str, Any], old: dict[str, Any] | None, shown: str) -> str:
    """ "as committed" where the build says the same as the committed ledger, or nothing of its own."""
    return "as committed" if old == entry else shown


def _verdict(claim: dict[str, Any]) -> str:
    from zephyr_lab.reporting.ledger import effect_text

    effect = effect_text(claim)
    return f"{claim['verdict']}\n{effect}" if effect else claim["verdict"]


def _summary(told: dict[str, Any]) -> str:
    items = Counter(item["status"] for item in told["items"])
    claims = Counter(claim["verdict"] for claim in told["claims"])
    seeds = "no seeds yet" if told["seeds"] is None else f"{told['seeds']} seeds"
    origin = "from your build" if told["source"] == "build" else "from the committed figures"
    return "\n".join(
        [
            f"profile {told['profile']}, {seeds}, {origin}",
            f"{len(told['items'])} items: " + ", ".join(f"{count} {status}" for status, count in items.most_common()),
            f"{len(told['claims'])} claims: "
            + ", ".join(f"{count} {verdict}" for verdict, count in claims.most_common()),
        ]
    )
