"""Commands about the laboratory itself: list, run, report, trace, keep, clean, doctor."""

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from zephyr_lab.cli.printing import Json, Profile, print_json, print_rows


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
        if not json:  # what fits a screen; --json gives all
            rows = [{name: row[name] for name in ("name", "rows", "size", "licence", "found", "about")} for row in rows]
    elif what == "notebooks":
        rows = commands.notebooks(profile)
    else:
        raise ValueError(f"nothing to list under {what!r}; known: notebooks, data")
    _show_rows(rows, json)


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
    values = {"profile": profile, "seeds": str(seeds)} | _named(parameter or [])
    if explain:
        reasons = runner.explain(chosen, values)
        _show(_reason_lines(reasons), reasons, json)
        return
    outcomes = runner.run(chosen, values, jobs=jobs or available_cores())
    _show(commands.run_lines(outcomes), [commands.outcome_row(outcome) for outcome in outcomes], json)
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def report(profile: Profile = "tiny", json: Json = False) -> None:
    """Build the static report (only where something changed) and print where it opens."""
    from zephyr_lab.core.profiles import require_profile
    from zephyr_lab.engine.freshness import stale_notebooks
    from zephyr_lab.reporting.site import builder

    require_profile(profile)
    built = builder.build(profile, stale=stale_notebooks(profile))
    state = f"built in {built.seconds:.0f} s" if built.built else "up to date"
    table = {"index": str(built.index), "built": built.built, "pages": built.pages, "seconds": round(built.seconds, 2)}
    _show([f"{built.index}  {built.pages} pages, {state}"], table, json)


def trace(
    path: Annotated[str, typer.Argument(help="a file below build/ or figures/, or an item such as zephyr/tab1")],
    profile: Profile = "tiny",
    everything: Annotated[bool, typer.Option("--all", help="also each stage, input and module")] = False,
    json: Json = False,
) -> None:
    """From a figure or table to its notebook, arms, functions, equations and tests."""
    from zephyr_lab.lab import tracing

    traced = tracing.trace(path, profile)
    _show(tracing.lines(traced, everything=everything), traced, json)


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
    _show(keeping.lines(outcomes), [dataclasses.asdict(outcome) for outcome in outcomes], json)
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
    listed = cleaning.remove(doomed) if yes else doomed
    _show_rows(cleaning.table(listed), json)
    if not json:
        size = sum(one.bytes for one in listed) / 2**20
        folders = f"{len(listed)} folder{'s' if len(listed) != 1 else ''}, {size:.1f} MiB"
        busy = f"; {len(doomed) - len(listed)} in use, left" if len(listed) != len(doomed) else ""
        print(f"removed {folders}{busy}" if yes else f"{folders} could go: zephyr-lab clean --yes removes them")


def doctor(profile: Profile = "tiny", json: Json = False) -> None:
    """Environment, versions against the lock, cores, memory, disk, data found; exit code 1 if something is wrong."""
    from zephyr_lab.lab import commands

    findings = commands.examine(profile)
    _show_rows(findings, json)
    if any(finding["state"] == "wrong" for finding in findings):
        raise typer.Exit(1)


def _named(pairs: list[str]) -> dict[str, str]:
    """{"beta": "0.1"} from ["beta=0.1"]."""
    named = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"-p takes name=value, got {pair!r}")
        named[name] = value
    return named


def _reason_lines(reasons: dict[str, list[str]]) -> list[str]:
    lines = [f"{name}  {'would run: ' + '; '.join(why) if why else 'fresh'}" for name, why in reasons.items()]
    overtaken = [name.partition("_")[0] for name, why in reasons.items() if any("code of stage" in one for one in why)]
    command = f"zephyr-lab keep {' '.join(overtaken)} --because TEXT"
    return [*lines, f"If the change moves no number: {command} trains nothing again."] if overtaken else lines


def _show(lines: Iterable[str], content: Any, json: bool) -> None:
    """The lines for people, or the content as JSON."""
    if json:
        print_json(content)
    else:
        print(*lines, sep="\n")


def _show_rows(rows: list[dict[str, Any]], json: bool) -> None:
    if json:
        print_json(rows)
    else:
        print_rows(rows)
