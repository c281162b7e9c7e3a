"""MT-Bench judgments: what GPT-4 wrote about an answer, and the score in it (Zheng et al. 2023, arXiv 2306.05685).

Reads FastChat's `gpt-4_single.jsonl`, one judgment a row: model, question_id, turn, judgment (the judge's text),
score, judge. A row that cannot be scored becomes a bad row; nothing is guessed.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zephyr_lab.core.row_files import read_rows
from zephyr_lab.core.rows import BadColumn, BadRow, Row, Rows, Text, read_as, shown

if TYPE_CHECKING:
    import pandas

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
    found = _RATING.search(judgment) or _RATING_IN_SINGLE_BRACKETS.search(judgment)
    return float(found[1]) if found else UNPARSED


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
    its numbers. Adding them back tells the two conventions apart.
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
