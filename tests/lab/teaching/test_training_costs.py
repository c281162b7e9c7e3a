"""What trainings cost, from made-up token counts."""

import pytest

from zephyr_lab.core import session
from zephyr_lab.lab import Lab
from zephyr_lab.lab.teaching import training_costs

SPENT = {"tokens_generated": 10.0, "tokens_prompted": 20.0, "tokens_scored": 30.0, "tokens_trained": 5.0}


@pytest.fixture
def arms(monkeypatch, tmp_path):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 3, "test"))
    lab = Lab("teaching", "tiny", 2)
    start, pairs = lab.sft(lab.base(), lab.dialogues()), lab.pairs()
    reward = lab.reward_model(start, pairs)
    return {"DPO": lab.tuned_dpo(start, pairs), "PPO": lab.ppo(start, pairs, reward=reward), "reward": reward}


def test_flops_are_2_a_parameter_and_token_and_6_where_a_gradient_is_kept():
    assert training_costs.flops(SPENT, parameters=7.0) == 7 * (2 * 60 + 6 * 5)
    assert training_costs.tokens_read(SPENT) == 65


def test_a_reward_model_counts_for_the_arm_that_climbs_it(arms):
    assert [stage.name for stage in training_costs.trainings(arms["PPO"].stage(0))] == ["reward", "ppo"]
    assert [stage.name for stage in training_costs.trainings(arms["DPO"].stage(0))] == ["ddpo"]
    assert len(training_costs.knobs_of(arms["PPO"])) > len(training_costs.knobs_of(arms["reward"]))
    assert {"reward model: centring", "clip_ratio", "beta"} <= set(training_costs.knobs_of(arms["PPO"]))
    assert training_costs.knob_table(arms)["method"].tolist() == ["DPO", "PPO", "reward"]


def test_costs_add_up_over_trainings_and_memory_does_not(arms, monkeypatch):
    told, peaks = {"cpu_seconds": 2.0, "tokens_trained": 1e6}, {"reward": 100.0, "ppo": 300.0}
    monkeypatch.setattr(training_costs, "metrics", lambda stage: {**told, "peak_mib": peaks[stage.name]})
    cost = training_costs.cost(training_costs.trainings(arms["PPO"].stage(0)), parameters=1e6)
    assert (cost["cpu_seconds"], cost["peak_mib"], cost["tflop"]) == (4.0, 300.0, 12.0)
    assert cost["seconds_a_token"] == pytest.approx(2e-6)


def test_ratios_are_paired_by_seed(arms, monkeypatch):
    seconds = {"ddpo": 2.0, "ppo": 5.0, "reward": 1.0}
    monkeypatch.setattr(training_costs, "get_many", lambda stages: None)
    monkeypatch.setattr(
        training_costs,
        "metrics",
        lambda stage: {"cpu_seconds": (1 + stage.seed) * seconds[stage.name], "tokens_trained": 1.0, "peak_mib": 1.0},
    )
    costs = training_costs.Costs.of(arms, seeds=2, parameters=1.0)
    assert costs.ratio("PPO", "DPO", "cpu_seconds").tolist() == [3.0, 3.0]
    assert costs.table()["row"].unique().tolist() == ["DPO", "PPO", "reward"]
    with pytest.raises(ValueError, match="no arm named 'KTO'; there are DPO, PPO, reward"):
        costs.values("KTO", "tflop")
