"""Scored completions, one a row, as judges' tables are: put together to one prompt with all its completions.

Columns: instruction, response, model (or response_source), and a score: overall_score, or gpt4_score; a list of
scores (a judge asked several times) counts with its mean.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec

from zephyr_lab.core.columns import BadColumn, Text, read_as, shown
from zephyr_lab.core.row_types import BadRow, Row, checked
from zephyr_lab.data.schemas import Completion, Message, ScoredPrompt, score, scored_prompt

PROMPT_COLUMNS = frozenset({"completions", "chosen", "rejected"})
TELLING_COLUMNS = PROMPT_COLUMNS | {"response"}
SCORE_COLUMNS = ("overall_score", "gpt4_score")


class _Columns(msgspec.Struct):
    instruction: Text
    response: str
    model: str | None = None
    response_source: str | None = None


@dataclass(slots=True)
class _Group:
    row: Row
    completions: list[Completion] = field(default_factory=list)


def scored_prompts(rows: Iterable[Row | BadRow]) -> Iterator[ScoredPrompt | BadRow]:
    """Scored prompts of any layout; which one is told by the first row with a column that only one of them has.

    Rows of one completion each are grouped by their instruction, in order of first appearance; that takes all rows
    into memory.
    """
    rows = iter(rows)
    seen: list[Row | BadRow] = []
    for row in rows:
        seen.append(row)
        if isinstance(row, Row) and not row.data.keys().isdisjoint(TELLING_COLUMNS):
            break
    first = seen[-1] if seen else None
    everything = chain(seen, rows)
    if isinstance(first, Row) and "response" in first.data and first.data.keys().isdisjoint(PROMPT_COLUMNS):
        return _grouped(everything)
    return checked(everything, scored_prompt)


def _grouped(rows: Iterable[Row | BadRow]) -> Iterator[ScoredPrompt | BadRow]:
    groups: dict[str, _Group] = {}
    for item in checked(rows, _one_completion):
        if isinstance(item, BadRow):
            yield item
            continue
        row, completion = item
        groups.setdefault(row.data["instruction"], _Group(row)).completions.append(completion)
    for instruction, group in groups.items():
        yield ScoredPrompt(instruction, (Message("user", instruction),), tuple(group.completions), group.row)


def _one_completion(row: Row) -> tuple[Row, Completion]:
    columns = read_as(row.data, _Columns)
    column = next((column for column in SCORE_COLUMNS if column in row.data), None)
    if column is None:
        raise BadColumn("overall_score", f"is missing, and so are its other names: {', '.join(SCORE_COLUMNS[1:])}")
    model = columns.response_source if columns.model is None else columns.model
    return row, Completion(model or "", columns.response, _mean_score(row.data[column], column))


def _mean_score(value: Any, column: str) -> float | None:
    """The mean of one score or several, N/A left out; None where all are. Raises BadColumn."""
    if isinstance(value, dict):
        raise BadColumn(column, f"must be a score or a list of scores, got {shown(value)}")
    values = value if isinstance(value, list) else [value]
    known = [found for one in values if (found := score(one, column)) is not None]
    return sum(known) / len(known) if known else None
