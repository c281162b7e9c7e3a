"""Style faults of answers, counted by the judge's own check, which knows nothing of the filters and their phrases."""

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from zephyr_lab.lab import numbers
from zephyr_lab.lab.answer_scores import HOT, NEAR_GREEDY, Measure
from zephyr_lab.lab.arms import Rows
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.intervals import PERCENT
from zephyr_lab.world.judge import grade
from zephyr_lab.world.task import Turn

# The name of a fault -> the judge's check that it fails.
FAULTS = {"case": "capital", "disclaimer preface": "no_preface", "cut off": "complete"}
ANY_FAULT = "any style fault"
EVERY = (ANY_FAULT, *FAULTS)
RUNS = {NEAR_GREEDY: "MT-Bench's temperatures", HOT: "T = 0.7"}
# Style does not depend on the question, so the judge can be asked with any turn.
_ANY_TURN = Turn("", "", "", (), "", "", "no explanation is asked for", "")


def share(fault: str, run: str) -> Measure:
    """Share of answers of `run` with the fault, in %, for `Answers.means`."""
    return Measure(f"{fault}, {RUNS[run]}", fault, run=run, scale=100.0, within=PERCENT)


def with_faults(answered: pd.DataFrame) -> pd.DataFrame:
    """Graded answers with a column of True and False for each of `FAULTS`, and for `ANY_FAULT`."""
    faults = pd.DataFrame({name: ~answered[passed].astype(bool) for name, passed in FAULTS.items()})
    return answered.assign(**faults, **{ANY_FAULT: faults.any(axis=1)})


def in_dialogues(dialogues: Mapping[str, Rows]) -> pd.DataFrame:
    """Tidy frame: share of the training dialogues' answers with each fault, in %, of all seeds, a row a set."""
    rows = []
    for row, one in dialogues.items():
        texts = [
            turn["content"]
            for seed in range(one.seeds)
            for dialogue in one.rows(seed)
            for turn in dialogue
            if turn["role"] == "assistant"
        ]
        faults = with_faults(pd.DataFrame([asdict(grade(_ANY_TURN, text)) for text in texts]))
        of = f"answers, {one.seeds} {'seeds' if one.seeds > 1 else 'seed'}"
        rows += [numbers.share(row, fault, int(faults[fault].sum()), len(faults), of=of) for fault in EVERY]
    return tables.frame(rows)
