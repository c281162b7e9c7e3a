"""`zephyr-lab score`: files of judgements and annotations -> scores with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zephyr_lab.cli.printing import Json, RejectedRows, print_json, print_table, printable, warn

if TYPE_CHECKING:
    from zephyr_lab.core.rows import BadRow
    from zephyr_lab.scoring.alpaca_eval import WinRate
    from zephyr_lab.scoring.intervals import Estimate, Interval
    from zephyr_lab.scoring.mt_bench import ModelScore

_SHOWN = 5  # disagreements listed for people; --json lists all

Seed = Annotated[int, typer.Option(help="of the bootstrap")]


def mt_bench(
    file: Annotated[Path, typer.Argument(help="FastChat's gpt-4_single.jsonl, also .gz, or a folder of such files")],
    unparsed: Annotated[str, typer.Option(help="judgments without a score: drop, or keep as -1")] = "drop",
    seed: Seed = 0,
    json: Json = False,
    rejected_rows: RejectedRows = None,
) -> None:
    """MT-Bench: mean, turns and categories of each model, with an interval over the questions."""
    from zephyr_lab.scoring import mt_bench
    from zephyr_lab.scoring.mt_bench import require_convention, score

    require_convention(unparsed)
    _require_another_file(rejected_rows, file)
    judged = mt_bench.read(file)
    rows, aside = judged.judgments, SetAside("score-mt-bench", file, rejected_rows, judged.bad)
    models = score(rows, unparsed=unparsed, seed=seed) if rows else {}
    scored = any(model.mean.n for model in models.values())
    unscored = f"none of its {len(rows)} judgments has a score (--unparsed keep counts them as -1)"
    _require_scores(file, rows, aside, scored=scored, why_none=unscored)
    if json:
        scores = {name: model.as_json() for name, model in models.items()}
        print_json({"unparsed": unparsed, "models": scores, "rows": len(rows)} | aside.as_json())
    else:
        _print_mt_bench(models, unparsed)
    aside.report(len(rows))


def alpaca_eval(
    file: Annotated[Path, typer.Argument(help="alpaca_eval's alpaca_eval.json, also .jsonl or .parquet")],
    seed: Seed = 0,
    json: Json = False,
    rejected_rows: RejectedRows = None,
) -> None:
    """AlpacaEval: win rate of each model against the baseline, with an interval over the instructions."""
    from zephyr_lab.scoring import alpaca_eval
    from zephyr_lab.scoring.alpaca_eval import score

    _require_another_file(rejected_rows, file)
    annotated = alpaca_eval.read(file)
    rows, aside = annotated.annotations, SetAside("score-alpaca-eval", file, rejected_rows, annotated.bad)
    models = score(rows, seed=seed) if rows else {}
    scored = any(model.win_rate.n for model in models.values())
    _require_scores(file, rows, aside, scored=scored, why_none=f"the preference of all {len(rows)} rows is null")
    if json:
        scores = {name: model.as_json() for name, model in models.items()}
        print_json({"models": scores, "rows": len(rows)} | aside.as_json())
    else:
        _print_alpaca_eval(models)
    aside.report(len(rows))


class SetAside:
    """The bad rows of a file, written where the user said or below build/rejected/, never beside the file.

    Good rows are scored all the same: a place that takes no file is reported after the scores, and is an error
    (OSError) only where the user named it.
    """

    def __init__(self, command: str, source: Path, named: Path | None, bad: "list[BadRow]"):
        from zephyr_lab.core.row_files import default_rejected_path, write_rejected

        self.named, self.bad = named, bad
        self.path: Path | None = None
        self.failure: OSError | None = None
        if not bad and named is None:
            return
        target = named or default_rejected_path(source, command)
        try:
            write_rejected(bad, target)
            self.path = target
        except OSError as error:
            self.failure = OSError(f"the rejected rows could not be written to {target} ({error.strerror or error})")

    def first(self) -> str:
        """The first bad row, and where all of them are."""
        return f"first {self.bad[0]}{f'; all are in {self.path}' if self.path else ''}"

    def as_json(self) -> dict[str, Any]:
        return {"bad_rows": len(self.bad), "rejected": None if self.path is None else str(self.path)}

    def report(self, good: int) -> None:
        """Warn of bad rows. Raises OSError where they could not be written to the place that was named."""
        if self.bad:
            warn(f"{len(self.bad)} of {good + len(self.bad)} rows are bad and left out, {self.first()}")
        if self.failure and self.named:
            raise self.failure
        if self.failure:
            warn(f"{self.failure}; --rejected-rows FILE names another place")


def _require_scores(file: Path, rows: Sequence[object], aside: SetAside, *, scored: bool, why_none: str) -> None:
    """Raises ValueError where no row of the file is usable, or none of them has a score."""
    if not rows:
        raise ValueError(printable(f"no usable row in {file}: {len(aside.bad)} bad, {aside.first()}"))
    if not scored:
        raise ValueError(printable(f"nothing to score in {file}: {why_none}"))


def _require_another_file(rejected: Path | None, source: Path) -> None:
    """Raises ValueError where the rejected rows would land on, or among, what is read."""
    if rejected is None:
        return
    if rejected.is_dir():
        raise ValueError(f"--rejected-rows must name a file, {str(rejected)!r} is a folder")
    if rejected.resolve() == source.resolve() or rejected.resolve().parent == source.resolve():
        raise ValueError(f"--rejected-rows must not name the input or lie in it, got {str(rejected)!r}")


def _print_mt_bench(models: "dict[str, ModelScore]", unparsed: str) -> None:
    from zephyr_lab.scoring.mt_bench import CATEGORIES

    print_table(
        ("model", "mean", "interval", "turn 1", "turn 2", "n", "unparsed"),
        (
            (name, *_estimate(model.mean), _number(model.turn_1), _number(model.turn_2), model.mean.n, model.unparsed)
            for name, model in models.items()
        ),
        title="MT-Bench, 0 to 10; 95 % bootstrap over questions",
        numbers=True,
    )
    shown = [name for name in CATEGORIES if any(name in model.categories for model in models.values())]
    print_table(
        ("model", *shown),
        ((name, *(_number(model.categories.get(category)) for category in shown)) for name, model in models.items()),
        title="Categories, means of both turns",
        numbers=True,
    )
    if any(model.unparsed for model in models.values()):
        dropped = "left out, as in FastChat; --unparsed keep counts them as -1"
        print(f"Judgments without a score are {dropped if unparsed == 'drop' else 'counted as -1'}.")
    for name, model in models.items():
        for statement in (*_other_interval(model.mean), *_oddities(model)):
            print(f"{printable(name)}: {statement}")


def _other_interval(estimate: "Estimate") -> list[str]:
    """What the interval of a row is, where it is not the bootstrap that the title names, or why there is none."""
    from zephyr_lab.scoring.intervals import BOOTSTRAP, EXACT, FEW

    if estimate.value is None or estimate.method == BOOTSTRAP:
        return []
    because = f": equal values, or fewer than {FEW} wins or losses" if estimate.method == EXACT else ""
    return [f"interval: {estimate.method}{because}"]


def _oddities(model: "ModelScore") -> list[str]:
    """What a reader of the mean should know about the judgments behind it."""
    counts = {
        "stored scores that differ from the judge's text": (len(model.disagreeing), "the stored ones count"),
        "scores below the judge's scale of 1 to 10": (model.below_scale, "they count"),
        "answers judged more than once": (model.judged_twice, "each judgment counts"),
    }
    statements = [f"{oddity}: {count} ({meaning})" for oddity, (count, meaning) in counts.items() if count]
    statements += [
        f"question {row.question_id} turn {row.turn}: stored {row.score:g}, in the text {row.in_text:g}"
        for row in model.disagreeing[:_SHOWN]
    ]
    if len(model.judges) > 1:
        statements.append(f"several judges are pooled: {printable(', '.join(model.judges))}")
    return statements


def _print_alpaca_eval(models: "dict[str, WinRate]") -> None:
    print_table(
        ("model", "win rate", "interval", "error", "wins", "losses", "draws", "n", "nulls", "length"),
        (
            (
                name,
                *_estimate(model.win_rate),
                "-" if model.standard_error is None else f"{model.standard_error:.2f}",
                *(model.wins, model.losses, model.draws, model.win_rate.n, model.nulls),
                "-" if model.avg_length is None else model.avg_length,
            )
            for name, model in models.items()
        ),
        title="AlpacaEval, percent; 95 % bootstrap over instructions",
        numbers=True,
    )
    for name, model in models.items():
        for statement in _other_interval(model.win_rate):
            print(f"{printable(name)}: {statement}")
    print("At equal lengths, fitted from these annotations alone (not the published length control):")
    for name, model in models.items():
        fit = model.length_controlled
        value = "no value" if fit.value is None else f"{fit.value:.2f} {_interval(fit.interval)}"
        print(f"  {printable(name)}: {value}{f' ({fit.statement})' if fit.statement else ''}")
        if model.annotated_twice:
            print(f"  {printable(name)}: instructions with several rows: {model.annotated_twice} (each row counts)")
        if len(model.baselines) > 1:
            print(f"  {printable(name)}: several baselines are pooled: {printable(', '.join(model.baselines))}")


def _estimate(estimate: "Estimate") -> tuple[str, str]:
    return _number(estimate), _interval(estimate.interval)


def _number(estimate: "Estimate | None") -> str:
    return "-" if estimate is None or estimate.value is None else f"{estimate.value:.2f}"


def _interval(interval: "Interval | None") -> str:
    return "-" if interval is None else f"[{interval.low:.2f}, {interval.high:.2f}]"
