"""Real rows: what the filters find in released answers of fifteen models, and in Zephyr's own.

The dialogues are answers to MT-Bench's questions, in UltraChat's schema. Shares are in percent; an answer counts once.
Dialogues of one question are not quite independent, so intervals over dialogues are a little too narrow.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd

from zephyr_lab.core.row_files import iter_rows
from zephyr_lab.core.rows import BadRow, Row
from zephyr_lab.data import released
from zephyr_lab.data.filters import Verdict, named_rules, run_rules
from zephyr_lab.data.filters_overlap import Benchmarks, read_questions
from zephyr_lab.data.schemas import Dialogue, checked, dialogue
from zephyr_lab.lab import numbers
from zephyr_lab.lab.numbers import Known
from zephyr_lab.reporting import tables

DIALOGUES, QUESTIONS, ZEPHYR = FILES = "mt_bench_dialogues", "mt_bench_questions", "alpaca_eval_zephyr_outputs"
PATTERNS = ("narrow_refusal", "wide_refusal", "lower_case_sentence_start")
OURS = ("disclaimer_preface", "truecase", "truncated", "exact_duplicate", "near_duplicate")
BY_MODEL = ("disclaimer_preface", "truncated")
ZEPHYR_ROW = "zephyr-7b-beta on AlpacaEval"
# Dialogues and answers that each pattern finds: counted by separate code, and stated with the file.
EXPECTED = {"narrow_refusal": (2, 2), "wide_refusal": (15, 17), "lower_case_sentence_start": (18, 23)}


def absent() -> dict[str, str]:
    """How to get each released file that is not at hand."""
    return {name: released.how_to_get(name) for name in FILES if released.path(name) is None}


def counts() -> pd.DataFrame:
    """Share of dialogues and answers that each rule, on its own, finds; empty where the dialogues are not at hand."""
    rows = []
    for name, verdicts in _verdicts().items():
        hits = [len(verdict.hits[name]) for verdict in verdicts]
        rows.append(numbers.share(name, "dialogues", sum(map(bool, hits)), len(hits), of="dialogues", source=DIALOGUES))
        if name in (*PATTERNS, "disclaimer_preface", "truecase", "truncated"):
            answers = sum(1 for verdict in verdicts for _ in verdict.dialogue.answers())
            rows.append(numbers.share(name, "answers", sum(hits), answers, of="answers", source=DIALOGUES))
    return tables.frame(rows)


def by_model() -> pd.DataFrame:
    """Shares of each model's answers that `BY_MODEL` rules find, most disclaimers first; a metric a rule.

    Zephyr's own answers to AlpacaEval are among them where they are at hand: other questions, and one turn each.
    """
    hits_by_row: dict[tuple[str, str], list[bool]] = {}
    for rule in BY_MODEL:
        for verdict in _verdicts().get(rule, []):
            model = str(verdict.dialogue.row.data["id"]).partition(":")[0]
            hits = [place in verdict.hits[rule] for place, _ in verdict.dialogue.answers()]
            hits_by_row.setdefault((model, rule), []).extend(hits)
    if path := released.path(ZEPHYR):
        verdicts = list(run_rules(_single_answers(path), named_rules(BY_MODEL)))
        hits_by_row |= {(ZEPHYR_ROW, rule): [bool(verdict.hits[rule]) for verdict in verdicts] for rule in BY_MODEL}
    rows = [
        numbers.share(
            model, rule, sum(hits), len(hits), of="answers", source=ZEPHYR if model == ZEPHYR_ROW else DIALOGUES
        )
        for (model, rule), hits in hits_by_row.items()
    ]
    first = {line["row"]: line["value"] for line in rows if line["metric"] == BY_MODEL[0]}
    return tables.frame(sorted(rows, key=lambda line: -first[line["row"]]))


def repairs(limit: int = 3) -> pd.DataFrame:
    """The first answers whose casing would be repaired: the words around the first change, before and after."""
    changed = [verdict for verdict in _verdicts().get("truecase", []) if verdict.texts]
    rows = []
    for verdict in changed[:limit]:
        place, after = next(iter(verdict.texts.items()))
        before = verdict.dialogue.messages[place].content
        start = next(at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new)
        window = slice(max(0, start - 40), start + 40)
        rows.append({"id": verdict.dialogue.row.data["id"], "before": before[window], "after": after[window]})
    return pd.DataFrame(rows, columns=["id", "before", "after"])


def known_figures() -> Iterator[Known]:
    """Counts that must come out exactly where the files are at hand."""
    judged = _verdicts()
    for name, (dialogues, answers) in EXPECTED.items():
        if name in judged:
            hits = [len(verdict.hits[name]) for verdict in judged[name]]
            yield Known(f"real dialogues with {name}", sum(map(bool, hits)), dialogues, 0)
            yield Known(f"real answers with {name}", sum(hits), answers, 0)
    if "narrow_refusal" in judged:
        kept = sum(verdict.kept for verdict in judged["narrow_refusal"])
        yield Known("real dialogues kept after narrow_refusal", kept, 1198, 0)
    if "contaminated" in judged:
        asked = sum(bool(verdict.hits["contaminated"]) for verdict in judged["contaminated"])
        yield Known("real dialogues that ask a question of MT-Bench", asked, 1200, 0)


def _verdicts() -> dict[str, list[Verdict]]:
    """The verdicts of each rule on its own; `contaminated` where MT-Bench's questions are at hand too."""
    path, questions = released.path(DIALOGUES), released.path(QUESTIONS)
    return {} if path is None else _judged(path, questions)


@cache
def _judged(path: Path, questions: Path | None) -> dict[str, list[Verdict]]:
    read = [one for one in checked(iter_rows(path), dialogue) if not isinstance(one, BadRow)]
    names = [*PATTERNS, *OURS, *(["contaminated"] if questions else [])]
    index = Benchmarks({"MT-Bench": read_questions(questions)}) if questions else None
    return {name: list(run_rules(read, named_rules([name], benchmarks=index))) for name in names}


def _single_answers(path: Path) -> Iterator[Dialogue]:
    rows = (row for row in iter_rows(path) if isinstance(row, Row))
    return (dialogue(Row(row.number, {"data": [row.data["instruction"], row.data["output"]]})) for row in rows)
