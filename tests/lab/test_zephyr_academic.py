"""Table 2 from log-probabilities: the leaderboard's rule, paired differences, and a base that is asked once."""

import json

import pandas as pd
import pytest

from zephyr_lab.lab import zephyr_academic as academic
from zephyr_lab.reporting import published, tables
from zephyr_lab.world.choices import SHOTS


def scored(right: dict[str, float], *, seeds: int = 2, questions: int = 10) -> pd.DataFrame:
    """Models that answer the first `right[model]` of each set's questions, one more on later seeds."""
    rules = dict.fromkeys(academic.RULES, 0.0)
    return pd.DataFrame(
        [
            {"seed": seed, "model": model, "task": task, "question": f"{task} {number}", "examples": 3}
            | {rule: float(number < count + seed) for rule in rules}
            for model, count in right.items()
            for seed in range(1 if model == academic.BASE else seeds)
            for task in SHOTS
            for number in range(questions)
        ]
    )


RIGHT = {academic.BASE: 3, academic.DSFT: 5, academic.DDPO_1: 6, academic.DDPO: 4}


def value(table, row, metric):
    (found,) = table[(table["row"] == row) & (table["metric"] == metric)].to_dict("records")
    return found


def test_columns_are_those_of_table_2_and_stand_below_it():
    ours = academic.accuracies(scored(RIGHT))
    table = tables.side_by_side(ours, published.table("zephyr", "tab2"))
    assert list(dict.fromkeys(table["metric"]))[:4] == list(academic.SETS)
    assert set(ours.loc[ours["row"] == academic.DSFT, "value"]) == {55.0}  # 5 of 10, then 6 of 10


def test_the_base_is_asked_once_and_its_interval_says_so():
    ours = academic.accuracies(scored(RIGHT))
    base, trained = (value(ours, row, academic.MEAN) for row in (academic.BASE, academic.DSFT))
    assert base["seeds"] == 1 and base["interval"] == "1 base: 40 questions, bootstrap 95 %"
    assert trained["seeds"] == 2 and trained["interval"] == "2 seeds, t 95 %"


def test_differences_are_paired_by_seed():
    found = academic.differences(scored(RIGHT))
    change = value(found, "1 epoch of dDPO - dSFT", "arc")
    assert change["value"] == pytest.approx(10) and change["low"] < 10 < change["high"]
    assert change["interval"] == "2 equal seeds: 10 questions, bootstrap 95 %"  # 10 points under both
    assert value(found, "3 epochs of dDPO - dSFT", academic.MEAN)["value"] == pytest.approx(-10)


@pytest.mark.parametrize(("after", "sign"), [(4, -1), (7, 1)])
def test_the_claim_s_effect_has_the_sign_of_the_change(after, sign):
    (effect,) = academic.effect_of_ddpo(scored(RIGHT | {academic.DDPO: after})).to_dict("records")
    assert effect["row"] == "Z7" and sign * effect["value"] > 0


def test_rules_read_a_row_of_the_stage(tmp_path, monkeypatch):
    row = {"model": "m", "task": "facts", "question": "q", "answer": 1, "examples": 5}
    row |= {"log_probs": [-6.0, -8.0], "tokens": [2, 4], "characters": [3, 8]}
    (tmp_path / "choices.json").write_text(json.dumps({name: [one] for name, one in row.items()}))
    monkeypatch.setattr(academic, "get_many", lambda stages: [tmp_path for _ in stages])
    found = academic.choices("tiny", 2)
    assert found["seed"].tolist() == [0, 1]
    assert found["by character"].tolist() == [1, 1] and found["summed"].tolist() == [0, 0]
    assert found["share of probability"].iloc[0] == pytest.approx(1 / (1 + 2.718281828459045**2))


def test_every_set_stands_for_one_published_column():
    assert set(academic.SETS.values()) == set(SHOTS) and set(academic.LABELS) == set(academic.SETS)
    shown = academic.examples(scored(RIGHT))
    assert shown.set_index("set").loc["reasoning"].tolist() == ["arc", 10, 25, 3.0]
