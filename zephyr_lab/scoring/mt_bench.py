"""MT-Bench: what GPT-4 wrote about answers, read, and scored with intervals over the 80 questions (Zheng et al. 2023,
arXiv 2306.05685).

Reads FastChat's `gpt-4_single.jsonl`, one judgment a row: model, question_id, turn, judgment (the judge's text), score,
judge. A row that cannot be scored becomes a bad row; nothing is guessed. As in FastChat's `show_result`, judgments
without a score are dropped, and the mean pools the rows of both turns; a row judged twice counts twice. Two conventions
are in print, so `unparsed` says which one is meant: LMSYS's table of June 2023, from which papers copy, counted -1 as a
score ("keep").
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zephyr_lab.core.row_files import read_rows
from zephyr_lab.core.rows import BadColumn, BadRow, Row, Rows, Text, read_as, shown
from zephyr_lab.scoring.intervals import RESAMPLES, Estimate, Scale, mean_estimate

UNPARSED = -1.0
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
QUESTIONS = range(81, 161)  # ten of each category, in this order
TURNS = (1, 2)

# FastChat's two patterns, `[[7]]` and, where there is none, `[7]`.
_RATING = re.compile(r"\[\[([0-9]+(?:\.[0-9]*)?)\]\]")
_RATING_IN_SINGLE_BRACKETS = re.compile(r"\[([0-9]+(?:\.[0-9]*)?)\]")


@dataclass(frozen=True, slots=True)
class Judgment:
    """One judgment of one answer. `score` is 0 to 10, or -1 where the judge's text has none; `in_text` is the score
    that the text gives, None where the file holds no text.

    The judge is asked for 1 to 10. A 0 is in released files all the same, where the text quotes `array[0]`; FastChat
    counts it, and so do we.
    """

    model: str
    question_id: int
    turn: int
    score: float
    in_text: float | None = None
    judge: str = ""

    @property
    def category(self) -> str:
        return category(self.question_id)

    @property
    def disagrees(self) -> bool:
        """Whether the stored score is another than the one in the text."""
        return self.in_text is not None and self.in_text != self.score


@dataclass(frozen=True, slots=True)
class Judged:
    """What files of judgments hold: the judgments, and the rows that cannot be read."""

    judgments: list[Judgment]
    bad: list[BadRow]
    files: list[Path]


def score_in(judgment: str) -> float:
    """The number in the first `[[n]]` of a judge's text, else in the first `[n]`, else -1; any size.

    FastChat's rule. The patterns match the same texts as FastChat's, in time linear in the text's length.
    """
    rating = _RATING.search(judgment) or _RATING_IN_SINGLE_BRACKETS.search(judgment)
    return float(rating[1]) if rating else UNPARSED


def category(question_id: int) -> str:
    """The category of one of MT-Bench's questions, 81 to 160."""
    return CATEGORIES[(question_id - QUESTIONS.start) // 10]


def read(source: Path) -> Judged:
    """The judgments in a file, or in every .jsonl and .jsonl.gz of a folder.

    Raises FileNotFoundError and ValueError as `read_rows` does; in a folder a file that cannot be read at all is a
    bad row 0 of that file. Pairwise judgments (`*_pair.jsonl`) are another format and passed over in a folder.
    """
    if not source.is_dir():
        rows = read_rows(source, _judgment)
        return Judged(rows.good, rows.bad, [source])
    files = sorted(path for path in source.iterdir() if _is_judgment_file(path.name))
    if not files:
        raise ValueError(f"folder {str(source)!r} holds no .jsonl or .jsonl.gz file of single-answer judgments")
    judgments: list[Judgment] = []
    bad: list[BadRow] = []
    for path in files:
        try:
            rows = read_rows(path, _judgment)
        except (OSError, ValueError) as error:
            bad.append(BadRow(0, None, str(error), "", path.name))
            continue
        judgments += rows.good
        bad += [replace(row, file=path.name) for row in rows.bad]
    return Judged(judgments, bad, files)


class _Columns(msgspec.Struct):
    """Numbers of tables may be 81.0."""

    model: Text
    question_id: float
    turn: float
    judgment: str | None = None
    score: float | None = None
    judge: Any = None


def judgment(data: dict[str, Any]) -> Judgment:
    """The judgment in a row's columns; raises BadColumn.

    The stored score counts, as in FastChat; the text's where none is stored. So that a score that was mended by hand
    or mangled is seen, `Judgment.disagrees` compares the two.
    """
    row = read_as(data, _Columns)
    if row.question_id not in QUESTIONS:
        raise BadColumn("question_id", f"must be one of MT-Bench's, 81 to 160, got {shown(data['question_id'])}")
    if row.turn not in TURNS:
        raise BadColumn("turn", f"must be 1 or 2, got {shown(data['turn'])}")
    in_text = None if row.judgment is None else score_in(row.judgment)
    score, column = (in_text, "judgment") if row.score is None else (row.score, "score")
    if score is None:
        raise BadColumn("score", "is missing, and there is no judgment text to read it from")
    if not (score == UNPARSED or 0 <= score <= 10):
        raise BadColumn(column, f"must give a score of 0 to 10, or -1 (unparsed), got {shown(score)}")
    return Judgment(row.model, int(row.question_id), int(row.turn), score, in_text, _judge(row.judge))


def from_frame(frame: "pandas.DataFrame") -> Judged:
    """The judgments in a table with the columns model, question_id, turn and score (no text to compare with)."""
    records = frame.to_dict(orient="records")
    rows = Rows.of((Row(number, record) for number, record in enumerate(records, start=1)), _judgment)
    return Judged(rows.good, rows.bad, [])


def with_missing_cells(judgments: list[Judgment]) -> list[Judgment]:
    """The same judgments, and -1 for each of a model's 160 cells (question and turn) that has none.

    Tables of scores leave unparsed cells out; LMSYS's table of June 2023 counted them as -1, and the papers print
    its numbers. Adding them back shows which convention a table follows.
    """
    present: dict[str, set[tuple[int, int]]] = {}
    for row in judgments:
        present.setdefault(row.model, set()).add((row.question_id, row.turn))
    cells = [(question_id, turn) for question_id in QUESTIONS for turn in TURNS]
    missing = [
        Judgment(model, *cell, UNPARSED) for model, seen in present.items() for cell in cells if cell not in seen
    ]
    return judgments + missing


def _judgment(row: Row) -> Judgment:
    return judgment(row.data)


def _is_judgment_file(name: str) -> bool:
    return name.endswith((".jsonl", ".jsonl.gz")) and not name.startswith(".") and "_pair." not in name


def _judge(judge: Any) -> str:
    """The judge's name: FastChat stores [name, prompt], and math has a prompt of its own."""
    name = judge[0] if isinstance(judge, list) and judge else judge
    return name if isinstance(name, str) else ""


CONVENTIONS = ("drop", "keep")
GIVEN = Scale(UNPARSED, 10.0)  # what a row may hold: the judge's 1 to 10, scores below it, -1 where it counts


@dataclass(frozen=True, slots=True)
class ModelScore:
    """A model's scores. Of all judgments, `rows`, `unparsed` have no score, and `below_scale` give less than the 1 that
    the judge may; `judged_twice` counts the cells (question and turn) with more than one. `disagreeing` are those
    whose stored score, which counts, is not the one in the text."""

    mean: Estimate
    turn_1: Estimate
    turn_2: Estimate
    categories: dict[str, Estimate]
    rows: int
    unparsed: int
    below_scale: int
    judged_twice: int
    judges: tuple[str, ...]
    disagreeing: tuple[Judgment, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values; the interval is that of the mean, and `interval_method` what it is, or why there is none."""
        return {
            "turn_1": self.turn_1.value,
            "turn_2": self.turn_2.value,
            "mean": self.mean.value,
            "n": self.mean.n,
            "unparsed": self.unparsed,
            "categories": {name: estimate.value for name, estimate in self.categories.items()},
            "interval": self.mean.interval,
            "interval_method": self.mean.method,
            "rows": self.rows,
            "below_scale": self.below_scale,
            "judged_twice": self.judged_twice,
            "judges": self.judges,
            "disagreements": [
                {"question_id": row.question_id, "turn": row.turn, "score": row.score, "in_text": row.in_text}
                for row in self.disagreeing
            ],
        }


def score(
    judgments: list[Judgment], *, unparsed: str, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, ModelScore]:
    """The scores of each model, in the order in which the models first appear.

    `unparsed` is "drop" (FastChat's show_result) or "keep" (-1 counts as a score). Raises ValueError for another.
    """
    require_convention(unparsed)
    by_model: dict[str, list[Judgment]] = {}
    for judgment in judgments:
        by_model.setdefault(judgment.model, []).append(judgment)
    return {model: _model_score(rows, unparsed, seed, resamples) for model, rows in by_model.items()}


def require_convention(unparsed: str) -> None:
    """Raises ValueError for another than "drop" and "keep"."""
    if unparsed not in CONVENTIONS:
        raise ValueError(f"unparsed must be 'drop' or 'keep', got {unparsed!r}")


def _model_score(rows: list[Judgment], unparsed: str, seed: int, resamples: int) -> ModelScore:
    counted = [row for row in rows if unparsed == "keep" or row.score != UNPARSED]
    present = {row.category for row in rows}
    turns = [_mean([row for row in counted if row.turn == turn], seed, resamples) for turn in TURNS]
    categories = {
        name: _mean([row for row in counted if row.category == name], seed, resamples)
        for name in CATEGORIES
        if name in present
    }
    return ModelScore(
        mean=_mean(counted, seed, resamples),
        turn_1=turns[0],
        turn_2=turns[1],
        categories=categories,
        rows=len(rows),
        unparsed=sum(row.score == UNPARSED for row in rows),
        below_scale=sum(0 <= row.score < 1 for row in rows),
        judged_twice=sum(count > 1 for count in Counter((row.question_id, row.turn) for row in rows).values()),
        judges=tuple(sorted({row.judge for row in rows if row.judge})),
        disagreeing=tuple(row for row in rows if row.disagrees),
    )


def _mean(rows: list[Judgment], seed: int, resamples: int) -> Estimate:
    questions = [row.question_id for row in rows]
    return mean_estimate([row.score for row in rows], questions, seed=seed, resamples=resamples, scale=GIVEN)


if TYPE_CHECKING:
    import pandas
