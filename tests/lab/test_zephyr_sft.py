"""Faults counted by the judge's eye, the claim's sign, and curves of logs that end at unlike steps."""

import json

import pandas as pd
import pytest

from zephyr_lab.lab import zephyr_sft
from zephyr_lab.lab.answer_scores import HOT, NEAR_GREEDY

PASSED = {"capital": True, "no_preface": True, "complete": True}


def answered(faulty: dict[str, int], *, seeds: int = 2, questions: int = 10) -> pd.DataFrame:
    """Hot and near-greedy answers of each arm; the first `faulty[arm]` hot ones start in lower case."""
    return zephyr_sft.with_faults(
        pd.DataFrame(
            [
                {"seed": seed, "model": arm, "run": run, "question_id": question, "turn": 1}
                | PASSED
                | {"capital": run == NEAR_GREEDY or question >= count + seed}
                for seed in range(seeds)
                for arm, count in faulty.items()
                for run in (NEAR_GREEDY, HOT)
                for question in range(questions)
            ]
        )
    )


def test_any_fault_is_one_of_the_three():
    rows = [PASSED, PASSED | {"capital": False}, PASSED | {"complete": False, "no_preface": False}]
    found = zephyr_sft.with_faults(pd.DataFrame(rows))
    assert found[zephyr_sft.ANY_FAULT].tolist() == [False, True, True]
    assert found["cut off"].tolist() == [False, False, True]


def test_shares_are_of_each_run_alone():
    table = zephyr_sft.fault_shares(answered(dict.fromkeys(zephyr_sft.ARMS, 2)))
    values = table[table["row"] == zephyr_sft.FILTERED].set_index("metric")["value"]
    assert values["case, T = 0.7"] == values["any style fault, T = 0.7"] == pytest.approx(25)  # 2 and 3 of 10
    assert values["case, MT-Bench's temperatures"] == values["cut off, T = 0.7"] == 0


def test_the_effect_is_filtered_minus_unfiltered():
    effect = zephyr_sft.effect_of_filtering(answered({zephyr_sft.FILTERED: 1, zephyr_sft.UNFILTERED: 5}))
    assert effect["row"].tolist() == ["Z9"] and effect["value"].iloc[0] == pytest.approx(-0.4)
    turned = zephyr_sft.effect_of_filtering(answered({zephyr_sft.FILTERED: 5, zephyr_sft.UNFILTERED: 1}))
    assert turned["value"].iloc[0] == pytest.approx(0.4)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Stages are folders with a log and dialogues, one a call, named by what was asked for."""

    def made(stages):
        found = []
        for number, stage in enumerate(stages):
            folder = tmp_path / f"{stage.name}-{stage.seed}-{number}"
            folder.mkdir(exist_ok=True)
            steps = 3 + stage.seed  # one seed's filters keep more rows
            log = [{"step": step, "epoch": step / 4, "loss": 4.0 - step + stage.seed} for step in range(1, steps)]
            (folder / "log.json").write_text(json.dumps([{"step": 0, "eval_loss": 9.0}, *log]))
            filtered = bool(getattr(stage.recipe, "filters", ()))
            answers = ["Fine."] * 3 + ["Fine." if filtered else "no capital. and no end"]
            rows = [{"id": str(place), "data": ["Ask.", answer]} for place, answer in enumerate(answers)]
            (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            found.append(folder)
        return found

    monkeypatch.setattr(zephyr_sft, "get_many", lambda stages: made(list(stages)))


def test_faults_in_the_data_are_shares_of_answers(folders):
    table = zephyr_sft.data_faults("tiny", 2).set_index(["row", "metric"])
    drawn = table.loc[zephyr_sft.BEFORE]
    assert drawn.loc["case", "value"] == drawn.loc["cut off", "value"] == drawn.loc["any style fault", "value"] == 25
    assert drawn.loc["disclaimer preface", "value"] == 0 and drawn.loc["case", "n"] == 8
    assert table.loc[zephyr_sft.AFTER, "any style fault"]["value"] == 0


def test_curves_are_means_over_the_steps_that_all_seeds_have(folders):
    curves = zephyr_sft.loss_curves("tiny", 2)
    one = curves[curves["series"] == zephyr_sft.FILTERED]
    assert set(curves["series"]) == set(zephyr_sft.ARMS)
    assert one["x"].tolist() == [0.25, 0.5] and one["y"].tolist() == [3.5, 2.5]


def test_arms_differ_by_one_thing_each():
    arms = zephyr_sft.trained("tiny", 0)
    paper, unfiltered, all_tokens = (arms[arm] for arm in zephyr_sft.ARMS)
    assert unfiltered.recipe == paper.recipe and unfiltered.inputs["dialogues"].recipe.filters == ()
    assert all_tokens.inputs["dialogues"].recipe == paper.inputs["dialogues"].recipe
    assert paper.recipe.answers_only and not all_tokens.recipe.answers_only
