"""Faults counted by the judge's check, in answers and in training dialogues."""

import pandas as pd
import pytest

from zephyr_lab.lab import style_faults
from zephyr_lab.lab.answer_scores import HOT, NEAR_GREEDY
from zephyr_lab.lab.answers import Answers
from zephyr_lab.lab.arms import Rows
from zephyr_lab.reporting.claims import Part

PASSED = {"capital": True, "no_preface": True, "complete": True}


def answered(faulty: dict[str, int], *, seeds: int = 2, questions: int = 10) -> Answers:
    """Hot and near-greedy answers of each arm; the first `faulty[arm]` hot ones start in lower case."""
    rows = [
        {"seed": seed, "model": arm, "run": run, "question_id": question, "category": "math", "turn": 1}
        | PASSED
        | {"capital": run == NEAR_GREEDY or question >= count + seed}
        for seed in range(seeds)
        for arm, count in faulty.items()
        for run in (NEAR_GREEDY, HOT)
        for question in range(questions)
    ]
    return Answers(style_faults.with_faults(pd.DataFrame(rows)))


def test_any_fault_is_one_of_the_three():
    rows = [PASSED, PASSED | {"capital": False}, PASSED | {"complete": False, "no_preface": False}]
    faults = style_faults.with_faults(pd.DataFrame(rows))
    assert faults[style_faults.ANY_FAULT].tolist() == [False, True, True]
    assert faults["cut off"].tolist() == [False, False, True]


def test_shares_are_of_each_run_alone():
    measures = [style_faults.share(fault, run) for run in style_faults.RUNS for fault in style_faults.EVERY]
    values = answered({"arm": 2}).means(*measures).set_index("metric")["value"]
    assert values["case, T = 0.7"] == values["any style fault, T = 0.7"] == pytest.approx(25)  # 2 and 3 of 10
    assert values["case, MT-Bench's temperatures"] == values["cut off, T = 0.7"] == 0


@pytest.mark.parametrize(("faulty", "effect"), [((1, 5), -0.4), ((5, 1), 0.4)])
def test_the_measure_of_the_claim_is_a_share_of_sampled_answers(faulty, effect):
    part = Part("m", "lower", 0.02, "", arms=("a", "b"), measure="share with a case fault, T = 0.7")
    row = answered(dict(zip("ab", faulty, strict=True))).effect("Z9", part)
    assert row["value"] == pytest.approx(effect)


def test_faults_in_the_data_are_shares_of_answers(monkeypatch):
    def of(texts):
        rows = Rows("dialogues", "tiny", 2, lambda seed: None)
        dialogue = [turn for text in texts for turn in ({"role": "user", "content": "ask"}, _said(text))]
        monkeypatch.setitem(told, id(rows), [dialogue])
        return rows

    told = {}
    monkeypatch.setattr(Rows, "rows", lambda self, seed: told[id(self)])
    sets = {"drawn": of(["Fine."] * 3 + ["no capital. and no end"]), "kept": of(["Fine."] * 4)}
    table = style_faults.in_dialogues(sets).set_index(["row", "metric"])
    drawn = table.loc["drawn"]
    assert drawn.loc["case", "value"] == drawn.loc["cut off", "value"] == drawn.loc["any style fault", "value"] == 25
    assert drawn.loc["disclaimer preface", "value"] == 0 and drawn.loc["case", "n"] == 8
    assert table.loc["kept", "any style fault"]["value"] == 0


def _said(text):
    return {"role": "assistant", "content": text}
