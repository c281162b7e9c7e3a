"""Commands on data files: filter dialogues by named rules, make preference pairs of scored completions."""

import dataclasses
import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zephyr_lab.data.pairs_statistics import PairStatistics

Json = Annotated[bool, typer.Option("--json", help="print JSON for machines")]
Out = Annotated[Path | None, typer.Option(help="write the result here: .jsonl, .jsonl.gz or .parquet")]
SHOWN = 3  # bad rows told on stderr


def filter_file(
    file: Annotated[
        Path, typer.Argument(help="dialogues: .jsonl, .jsonl.gz, .parquet; {id, data}, {messages}, ShareGPT, Alpaca")
    ],
    rules: Annotated[
        str | None,
        typer.Option(
            help="names with commas: truecase, disclaimer_preface, truncated, exact_duplicate, near_duplicate (these "
            "five unless given), empty_answer, contaminated, narrow_refusal, wide_refusal, lower_case_sentence_start"
        ),
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="file of benchmark questions for the rule contaminated; may be repeated")
    ] = None,
    out: Out = None,
    rejected: Annotated[Path | None, typer.Option(help="unusable rows go here instead of build/rejected/")] = None,
    json: Json = False,
) -> None:
    """Filter dialogues by named rules and count what each finds; truecase repairs, every other rule drops."""
    from zephyr_lab.data import file_steps, filters, filters_overlap

    files = against or []
    benchmarks = None
    if files:
        benchmarks = filters_overlap.Benchmarks({str(path): filters_overlap.read_questions(path) for path in files})
    names = filters.rule_names(rules, with_benchmarks=bool(files))
    chosen = filters.named_rules(names, benchmarks=benchmarks)
    done = file_steps.filter_dialogues(file, chosen, out=out, rejected=rejected)
    _tell_bad(done.bad, done.rejected)
    empty = done.counts.empty_answers
    if empty.turns and "empty_answer" not in names:
        _tell(f"{empty.turns} empty answers in {empty.dialogues} dialogues stay in (rule empty_answer drops them)")
    found = {name: dataclasses.asdict(count) for name, count in done.counts.rules.items()}
    if json:
        print(json_module.dumps({"rows": done.counts.rows, "kept": done.counts.kept, "rules": found}, indent=1))
        return
    _print_table(("rule", "dialogues", "turns"), [(name, *count.values()) for name, count in found.items()])
    print(f"{done.counts.kept} of {done.counts.rows} rows kept{_where(out)}")


def binarise_file(
    file: Annotated[Path, typer.Argument(help="scored completions: .jsonl, .jsonl.gz, .parquet; {instruction, ...}")],
    chosen: Annotated[str, typer.Option(help="score to choose by: overall_score or mean_rating")] = "overall_score",
    rejected: Annotated[
        str, typer.Option(help="rule: random, random_lower, worst, second_best or first_release")
    ] = "random",
    seed: Annotated[int, typer.Option(help="seed of the random draws")] = 42,
    raw_scores: Annotated[
        bool, typer.Option("--raw-scores", help="keep an overall score of 10 beside the lowest ratings: it means 1")
    ] = False,
    drop_identical: Annotated[
        bool, typer.Option("--drop-identical", help="make no pair whose two answers are the same text")
    ] = False,
    out: Out = None,
    rejected_rows: Annotated[Path | None, typer.Option(help="unusable rows go here instead of build/rejected/")] = None,
    json: Json = False,
) -> None:
    """Make preference pairs: the best-scored completion of each prompt, and another one picked by a named rule."""
    from zephyr_lab.data import file_steps
    from zephyr_lab.data.pairs import Binarisation

    how = Binarisation(chosen=chosen, rejected=rejected, raw_scores=raw_scores, drop_identical=drop_identical)
    done = file_steps.binarise_completions(file, how, seed=seed, out=out, rejected=rejected_rows)
    _tell_bad(done.bad, done.rejected)
    if done.empty_answers:
        _tell(f"{done.empty_answers} completions are empty and take part all the same")
    _tell_findings(done.statistics, raw_scores=raw_scores)
    statistics = dataclasses.asdict(done.statistics)
    if json:
        print(json_module.dumps(statistics, indent=1))
        return
    _print_table(("", ""), [(name.replace("_", " "), _shown(value)) for name, value in statistics.items()])
    print(f"{statistics['pairs']} pairs of {statistics['prompts']} prompts{_where(out)}")


def _tell_findings(found: "PairStatistics", *, raw_scores: bool) -> None:
    """Scores that cannot be what they say, and pairs of one text: what was done with them, and how to do otherwise."""
    if found.tens_meant_as_one:
        done = "kept as 10 (--raw-scores)" if raw_scores else "read as 1 (--raw-scores keeps them)"
        _tell(f"{found.tens_meant_as_one} overall scores of 10 beside a mean rating of at most 2 are {done}")
    if found.doubtful_tens:
        _tell(
            f"{found.doubtful_tens} overall scores of 10 beside a mean rating above 2, up to 4, are doubtful and stay"
        )
    if found.identical_pairs:
        _tell(f"{found.identical_pairs} pairs hold one text twice and stay in (--drop-identical drops them)")
    if found.identical_dropped:
        _tell(f"{found.identical_dropped} pairs of one text twice are dropped")


def _tell_bad(bad: Sequence[object], rejected: Path | None) -> None:
    """How many rows are unusable, the first few by row and column, and where all of them are."""
    if not bad:
        return
    for row in bad[:SHOWN]:
        _tell(str(row))
    _tell(f"{len(bad)} rows refused, all of them in {rejected}")


def _tell(line: str) -> None:
    print(f"zephyr-lab: {line}", file=sys.stderr)


def _where(out: Path | None) -> str:
    return f", written to {out}" if out else ""


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(count) for count in value)
    return "" if value is None else f"{value:.6g}"


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=any(columns))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)
