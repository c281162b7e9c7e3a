"""Commands about the laboratory itself: list, run, trace, keep, clean, doctor."""

import dataclasses
import json as json_module
import sys
from typing import Annotated

import typer

Profile = Annotated[str, typer.Option(help="smoke, tiny, world-gpu, gpu or paper")]
Json = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def list_(
    what: Annotated[str, typer.Argument(help="notebooks, or data for the released files")] = "notebooks",
    profile: Profile = "tiny",
    fetch: Annotated[str | None, typer.Option(help="with data: fetch this released file from its publisher")] = None,
    json: Json = False,
) -> None:
    """Notebooks with their state and last wall time; or the released files, where they are, and how to get one."""
    from zephyr_lab.lab import commands

    if fetch and what != "data":
        raise ValueError("--fetch goes with data: zephyr-lab list data --fetch NAME")
    if fetch:
        from zephyr_lab.data import released

        print(f"{fetch} is in {released.download(fetch)}")
        return
    if what == "data":
        from zephyr_lab.data import released

        rows = [dataclasses.asdict(row) for row in released.listing()]
        if not json:  # what fits a screen; --json tells all
            rows = [{name: row[name] for name in ("name", "rows", "size", "licence", "found", "about")} for row in rows]
    elif what == "notebooks":
        rows = commands.notebooks(profile)
    else:
        raise ValueError(f"nothing to list under {what!r}; known: notebooks, data")
    _print_rows(rows, json)


def run(
    notebooks: Annotated[list[str] | None, typer.Argument(help="numbers of notebooks; all where none is given")] = None,
    profile: Profile = "tiny",
    seeds: Annotated[int, typer.Option(help="how many seeds: 0 to N-1")] = 3,
    jobs: Annotated[int, typer.Option(help="notebooks at once; 0: one a core")] = 0,
    parameter: Annotated[list[str] | None, typer.Option("-p", help="name=value of any notebook parameter")] = None,
    explain: Annotated[bool, typer.Option(help="say why each notebook would run, and run nothing")] = False,
    json: Json = False,
) -> None:
    """Bring notebooks up to date; what still stands is not run again."""
    from zephyr_lab.core.provenance import available_cores
    from zephyr_lab.engine import notebooks as sources
    from zephyr_lab.engine import runner
    from zephyr_lab.lab import commands

    chosen = sources.select(notebooks or [])
    given = {"profile": profile, "seeds": str(seeds)} | _named(parameter or [])
    if explain:
        _print_reasons(runner.explain(chosen, given), json)
        return
    outcomes = runner.run(chosen, given, jobs=jobs or available_cores())
    if json:
        print(json_module.dumps([commands.outcome_row(outcome) for outcome in outcomes], indent=1))
    else:
        for line in commands.run_lines(outcomes):
            print(line)
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def trace(
    path: Annotated[str, typer.Argument(help="a file below build/ or figures/, or an item such as zephyr/tab1")],
    profile: Profile = "tiny",
    everything: Annotated[bool, typer.Option("--all", help="also each stage, input and module")] = False,
    json: Json = False,
) -> None:
    """From a figure or table to its notebook, arms, functions, equations and tests."""
    from zephyr_lab.lab import tracing

    traced = tracing.trace(path, profile)
    if json:
        print(json_module.dumps(traced, indent=1))
    else:
        for line in tracing.lines(traced, everything=everything):
            print(line)


def keep(
    what: Annotated[list[str], typer.Argument(help="names of stages, or numbers of notebooks for all their stages")],
    because: Annotated[str, typer.Option(help="why the change of source moves no number; it goes into the provenance")],
    profile: Profile = "tiny",
    json: Json = False,
) -> None:
    """Carry finished results over a change of source that moves no number, instead of training them again.

    Nothing but source may differ: a changed recipe, input or library version is refused by name. Exit code 2 where
    nothing could be kept.
    """
    from zephyr_lab.core.profiles import require_profile
    from zephyr_lab.engine import keep as keeping

    outcomes = keeping.keep(require_profile(profile), what, because)
    if json:
        print(json_module.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=1))
    else:
        for line in keeping.lines(outcomes):
            print(line)
    if all(outcome.state == "refused" for outcome in outcomes):
        raise typer.Exit(2)


def clean(
    profile: Profile = "tiny",
    yes: Annotated[bool, typer.Option("--yes", help="remove; without it the command only lists")] = False,
    unused: Annotated[bool, typer.Option(help="also what would still serve, but no notebook's last run used")] = False,
    json: Json = False,
) -> None:
    """Results in the run store that no notebook of this checkout reaches, with their sizes; removed only with --yes."""
    from zephyr_lab.core.profiles import require_profile
    from zephyr_lab.engine import clean as cleaning

    require_profile(profile)
    doomed = cleaning.removable(profile, unused=unused)
    gone = cleaning.remove(doomed) if yes else doomed
    rows = cleaning.table(gone)
    _print_rows(rows, json)
    if not json:
        size = sum(one.bytes for one in gone) / 2**20
        what = f"{len(gone)} folder{'s' if len(gone) != 1 else ''}, {size:.1f} MiB"
        busy = f"; {len(doomed) - len(gone)} in use, left" if len(gone) != len(doomed) else ""
        print(f"removed {what}{busy}" if yes else f"{what} could go: zephyr-lab clean --yes removes them")


def doctor(profile: Profile = "tiny", json: Json = False) -> None:
    """Environment, versions against the lock, cores, memory, disk, data found; exit code 1 if something is wrong."""
    from zephyr_lab.lab import commands

    findings = commands.examine(profile)
    _print_rows(findings, json)
    if any(finding["state"] == "wrong" for finding in findings):
        raise typer.Exit(1)


def _named(pairs: list[str]) -> dict[str, str]:
    """{"beta": "0.1"} from ["beta=0.1"]."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"-p takes name=value, got {pair!r}")
        found[name] = value
    return found


def _print_reasons(reasons: dict[str, list[str]], json: bool) -> None:
    if json:
        print(json_module.dumps(reasons, indent=1))
        return
    for name, why in reasons.items():
        print(f"{name}  {'would run: ' + '; '.join(why) if why else 'fresh'}")
    overtaken = [name.partition("_")[0] for name, why in reasons.items() if any("code of stage" in one for one in why)]
    if overtaken:
        print(
            f"If the change moves no number: zephyr-lab keep {' '.join(overtaken)} --because TEXT trains nothing again."
        )


def _print_rows(rows: list[dict[str, object]], json: bool) -> None:
    if json:
        print(json_module.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in rows[0] if rows else []:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    # a pipe has no width of its own; a narrow guess would break names in two
    Console(width=None if sys.stdout.isatty() else 200).print(table)
