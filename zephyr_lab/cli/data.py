"""Commands on data files: filter dialogues by named rules, make preference pairs of scored completions."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zephyr_lab.cli.printing import Json, RejectedRows, print_json, print_table, warn

if TYPE_CHECKING:
    from zephyr_lab.data.pairs_statistics import PairStatistics

Out = Annotated[Path | None, typer.Option(help="write the result here: .jsonl, .jsonl.gz or .parquet")]
SHOWN = 3  # bad rows named on stderr


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
    messages: Annotated[
        bool, typer.Option("--messages", help="write {messages: ...}, what training reads, whatever the layout was")
    ] = False,
    rejected_rows: RejectedRows = None,
    json: Json = False,
) -> None:
    """Filter dialogues by named rules and count what each finds; truecase repairs, every other rule drops."""
    from zephyr_lab.data import file_steps, filters, filters_overlap

    if messages and out is None:
        raise ValueError("--messages says how --out FILE is written; name one")
    files = against or []
    benchmarks = None
    if files:
        benchmarks = filters_overlap.Benchmarks({str(path): filters_overlap.read_questions(path) for path in files})
    names = filters.rule_names(rules, with_benchmarks=bool(files))
    chosen = filters.named_rules(names, benchmarks=benchmarks)
    filtered = file_steps.filter_dialogues(file, chosen, out=out, rejected=rejected_rows, messages=messages)
    _warn_of_bad(filtered.bad, filtered.rejected)
    counts, empty = filtered.counts, filtered.counts.empty_answers
    if empty.turns and "empty_answer" not in names:
        warn(f"{empty.turns} empty answers in {empty.dialogues} dialogues stay in (rule empty_answer drops them)")
    by_rule = {name: dataclasses.asdict(count) for name, count in counts.rules.items()}
    if json:
        print_json({"rows": counts.rows, "kept": counts.kept, "rules": by_rule})
        return
    columns = ("rule", "dialogues", "turns")
    print_table(columns, [(name, *count.values()) for name, count in by_rule.items()], numbers=True)
    print(f"{counts.kept} of {counts.rows} rows kept{_where(out)}")


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
    rejected_rows: RejectedRows = None,
    json: Json = False,
) -> None:
    """Make preference pairs: the best-scored completion of each prompt, and another one picked by a named rule."""
    from zephyr_lab.data import file_steps
    from zephyr_lab.data.pairs import Binarisation

    how = Binarisation(chosen=chosen, rejected=rejected, raw_scores=raw_scores, drop_identical=drop_identical)
    binarised = file_steps.binarise_completions(file, how, seed=seed, out=out, rejected=rejected_rows)
    _warn_of_bad(binarised.bad, binarised.rejected)
    if binarised.empty_answers:
        warn(f"{binarised.empty_answers} completions are empty and take part all the same")
    _warn_of_oddities(binarised.statistics, raw_scores=raw_scores)
    statistics = dataclasses.asdict(binarised.statistics)
    if json:
        print_json(statistics)
        return
    print_table(("", ""), [(name.replace("_", " "), _shown(value)) for name, value in statistics.items()], numbers=True)
    print(f"{statistics['pairs']} pairs of {statistics['prompts']} prompts{_where(out)}")


def _warn_of_oddities(statistics: "PairStatistics", *, raw_scores: bool) -> None:
    """Scores that cannot mean what they say, and pairs of one text: what was done with them, and what else could be."""
    treatment = "kept as 10 (--raw-scores)" if raw_scores else "read as 1 (--raw-scores keeps them)"
    for count, oddity in (
        (statistics.tens_meant_as_one, f"overall scores of 10 beside a mean rating of at most 2 are {treatment}"),
        (statistics.doubtful_tens, "overall scores of 10 beside a mean rating above 2, up to 4, are doubtful and stay"),
        (statistics.identical_pairs, "pairs hold one text twice and stay in (--drop-identical drops them)"),
        (statistics.identical_dropped, "pairs of one text twice are dropped"),
    ):
        if count:
            warn(f"{count} {oddity}")


def _warn_of_bad(bad: Sequence[object], rejected: Path | None) -> None:
    """How many rows are unusable, the first few by row and column, and where all of them are."""
    for row in bad[:SHOWN]:
        warn(str(row))
    if bad:
        warn(f"{len(bad)} rows refused, all of them in {rejected}")


def _where(out: Path | None) -> str:
    return f", written to {out}" if out else ""


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(count) for count in value)
    return "" if value is None else f"{value:.6g}"
