"""The comparison's arithmetic on made-up policies: support, areas, costs, claims; no training."""

import numpy as np
import pandas as pd
import pytest

from zephyr_lab.core import session
from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.engine.stages import key
from zephyr_lab.lab import (
    kv_bytes,
    rlhf,
    rlhf_claims,
    rlhf_costs,
    rlhf_elsewhere,
    rlhf_figures,
    rlhf_reward,
    rlhf_stages,
    rlhf_sweep,
    sweeps,
    zephyr_stages,
)
from zephyr_lab.lab.rlhf import ARMS, DPO, FINAL, PPO, RLOO, RLOO_TRUE, START, TRAINED, Comparison
from zephyr_lab.reporting import claims

SEEDS, QUESTIONS = 3, 16


def points() -> pd.DataFrame:
    """Straight lines from 5: DPO gains 2 a nat up to 1 nat, PPO 1 a nat up to 2 nats, the others 1 a nat up to 1."""
    rows = []
    for seed in range(SEEDS):
        shift = 0.1 * (seed - 1)
        rest = {"brief": 0.0, "learned": 0.0, "words": 9.0, "tokens": 12.0, "finished": 1.0, "win": 50.0}
        rows.append({"seed": seed, "arm": START, "point": "start", "kl": 0.0, "quality": 5.0 + shift, **rest})
        for arm in ARMS:
            slope, reach = {DPO: (2.0, 1.0), PPO: (1.0, 2.0)}.get(arm, (1.0, 1.0))
            for share, point in ((0.25, "steps/1"), (0.5, "steps/2"), (1.0, FINAL)):
                kl = share * reach
                row = {"seed": seed, "arm": arm, "point": point, "kl": kl, "quality": 5.0 + shift + slope * kl, **rest}
                rows.append({**row, "win": 60.0})
    return pd.DataFrame(rows)


def answers() -> pd.DataFrame:
    """Chat scores: the start 5, all trained 6, DPO 7; a seed adds its number."""
    rows = []
    for seed in range(SEEDS):
        for model in (START, *TRAINED):
            base = {START: 5.0, DPO: 7.0}.get(model, 6.0)
            for question in (81, 82):
                for run in ("near-greedy", "hot"):
                    row = {"seed": seed, "model": model, "run": run, "question_id": question}
                    rows += [{**row, "turn": turn, "score": base + 0.1 * seed} for turn in (1, 2)]
    return pd.DataFrame(rows)


@pytest.fixture
def done(monkeypatch):
    stages = [rlhf.methods("tiny", seed) for seed in range(SEEDS)]
    told = {"tokens_trained": 1000.0, "tokens_scored": 500.0, "cpu_seconds": 2.0, "held_out_accuracy": 0.8}
    monkeypatch.setattr(rlhf_claims, "metrics", lambda stage: told)
    costs = [
        {
            "seed": seed, "arm": arm, "tokens_generated": 0.0 if arm == DPO else 1000.0, "tokens_read": 5000.0,
            "tflop": {DPO: 1.0, PPO: 3.0, RLOO: 2.0}.get(arm, 1.5), "cpu_seconds": 4.0,
            "peak_mib": 300.0 if arm == PPO else 200.0,
        }
        for seed in range(SEEDS) for arm in ARMS
    ]  # fmt: skip
    pool = {name: [[1.0, 2.0, 3.0, 4.0]] for name in ("quality", "learned", "words")}
    session.begin("tiny", SEEDS, notebook="test")
    return Comparison(points(), answers(), pd.DataFrame(costs), stages, [pool] * SEEDS, QUESTIONS)


def test_curves_are_compared_where_both_have_been(done):
    assert rlhf.support(done, PPO, DPO) == 1.0
    # areas up to 1 nat: 5 + 1/2 against 5 + 1
    assert rlhf.equal_kl(done, PPO, DPO) == pytest.approx([-0.5] * SEEDS)
    table = rlhf.at_equal_kl(done)
    (end,) = table[(table["row"] == PPO) & (table["metric"] == "at the end, points")]["value"]
    assert end == pytest.approx(-1.0)  # 6 against 7; that PPO reaches 7 at 2 nats does not count


def test_final_policies_are_told_with_their_kl(done):
    table = rlhf.arms(done)
    kl = table[(table["row"] == PPO) & (table["metric"] == rlhf.KL)]
    assert kl["value"].item() == pytest.approx(2.0)
    gain = table[(table["row"] == DPO) & (table["metric"] == "score - start's")]
    assert gain["value"].item() == pytest.approx(2.0)


def test_best_of_n_is_the_pools_order_statistics():
    pool = {name: [[1.0, 2.0, 3.0, 4.0]] for name in ("quality", "learned", "words")}
    found = rlhf.pool_points(pool, 0)
    assert found["point"].tolist() == ["n = 2", "n = 4"]  # 8 and 16 exceed the pool
    assert found["quality"].tolist() == pytest.approx([(2 + 3 * 2 + 4 * 3) / 6, 4.0])


def test_best_of_one_is_the_mean_of_its_pool(done):
    assert rlhf.best_of_one(done) == pytest.approx(0.0, abs=1e-12)


def test_flops_are_2_a_parameter_and_token_and_6_where_a_gradient_is_kept():
    spent = {"tokens_generated": 10.0, "tokens_prompted": 20.0, "tokens_scored": 30.0, "tokens_trained": 5.0}
    assert rlhf_costs.flops(spent, parameters=7.0) == 7 * (2 * 60 + 6 * 5)
    assert rlhf_costs.tokens_read(spent) == 65


def test_costs_add_up_over_trainings_and_memory_does_not(monkeypatch):
    told = {"cpu_seconds": 2.0, "peak_mib": 100.0, "tokens_trained": 1e6}
    reward, policy = rlhf.methods("tiny", 0)[PPO]
    monkeypatch.setattr(rlhf_costs, "metrics", lambda stage: told | ({"peak_mib": 300.0} if stage is policy else {}))
    cost = rlhf_costs.cost([reward, policy], parameters=1e6)
    assert (cost["cpu_seconds"], cost["peak_mib"], cost["tflop"]) == (4.0, 300.0, 12.0)


def test_effects_beside_the_statements(done):
    found = rlhf_claims.measured(done).set_index("row")
    assert found.loc["S0-5", "value"] == pytest.approx(50.0)  # 1 against 2
    assert found.loc["S1-24", "value"] == pytest.approx(3.0)
    assert found.loc["S1-29", "value"] == pytest.approx(100.0)
    assert found.loc["S1-31", "value"] == pytest.approx(0.5)
    assert found.loc["S1-32", "value"] == pytest.approx(3.0)  # PPO gains 2 points as DPO does, at three times the cost
    assert found.loc["S1-30", "value"] == pytest.approx(0.0, abs=1e-9)  # the same seeds, the same spread
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()


def test_turning_the_data_round_turns_the_effect_round(done):
    swapped = done.points.replace({"arm": {DPO: PPO, PPO: DPO}})
    turned = Comparison(
        swapped, done.answers, done.costs, done.stages, done.pools, done.questions
    )  # fmt: skip
    assert rlhf.equal_kl(turned, DPO, PPO) == pytest.approx([-one for one in rlhf.equal_kl(done, DPO, PPO)])


def test_a_gain_of_nothing_gives_no_price_of_a_point(done):
    flat = done.points.assign(quality=5.0)
    none = Comparison(flat, done.answers, done.costs, done.stages, done.pools, done.questions)
    assert "S1-32" not in set(rlhf_claims.measured(none)["row"])


def test_every_statement_announces_its_effect():
    known = {claim.id: claim for claim in claims.load("overview")}
    for id in (*rlhf_claims.EFFECTS, kv_bytes.CLAIM):
        assert known[id].later, f"{id} announces no effect"
    assert set(rlhf_claims.SAID) == set(rlhf_claims.EFFECTS)


def test_figures_draw_every_arm(done):
    for figure in (rlhf_figures.frontier(done), rlhf_figures.gain_by_cost(done)):
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert set(TRAINED) <= set(labels)
        assert figure.encode("png")


def test_deviations_square_to_the_variance():
    values = [1.0, 2.0, 4.0]
    assert np.mean(np.square(rlhf.deviations(values))) == pytest.approx(np.var(values, ddof=1))
    assert rlhf.deviations([3.0]) == [0.0]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_names_every_arm(profile):
    made = rlhf.methods(profile, 0)
    assert list(made) == list(TRAINED)
    assert all(len(rlhf_stages.kept(stages[-1])) >= (2 if profile == "smoke" else 3) for stages in made.values())
    assert set(rlhf_elsewhere.models(profile, 0)) > {rlhf_elsewhere.GRADED_RLOO}
    assert rlhf_reward.study(profile).weak_pairs > 0
    assert kv_bytes.stage(profile).recipe.windows == 2
    trials = rlhf_sweep.trials(profile)
    counts = {trial.method: sum(other.method == trial.method for other in trials) for trial in trials}
    assert len(set(counts.values())) == 1


@pytest.mark.parametrize("profile", ["smoke", "tiny", "world-gpu"])
def test_pairs_and_start_are_zephyrs(profile):
    assert key(rlhf_stages.pairs(profile, 0)) == key(zephyr_stages.pairs(profile, 0))
    assert key(rlhf_stages.start(profile, 0).stage) == key(zephyr_stages.dsft(profile, 0))


def test_graded_rewards_and_online_pairs_are_the_comparisons_own_runs():
    made, elsewhere = rlhf.methods("tiny", 0), rlhf_elsewhere.models("tiny", 0)
    assert key(made[RLOO_TRUE][0]) == key(elsewhere[rlhf_elsewhere.GRADED_RLOO])
    assert key(made[rlhf.ONLINE][0]) == key(elsewhere[rlhf_elsewhere.ONLINE])


def sweep_table(**changes):
    rows = [
        {"method": "dpo", "learning_rate": 1e-4, "beta": 0.1, "reward": 6.0, "kl": 0.5},
        {"method": "dpo", "learning_rate": 2e-4, "beta": 0.1, "reward": 6.5, "kl": 0.7},
        {"method": "ppo", "learning_rate": 1e-4, "beta": 0.1, "reward": 4.0, "kl": 9.0},
        {"method": "ppo", "learning_rate": 2e-4, "beta": 0.1, "reward": None, "kl": None},
    ]
    return {"start": 5.0, "trials": rows} | changes


def test_a_sweep_knows_its_winners_and_what_diverged():
    frame = sweeps.frame(sweep_table())
    assert sweeps.winners(frame) == {"dpo": (2e-4, 0.1), "ppo": (1e-4, 0.1)}
    assert frame["diverged"].tolist() == [False, False, True, True]  # below the start, and no number at all
    shown = sweeps.shown(frame).set_index("method")
    assert shown.loc["ppo", "diverged"] == 2
    assert shown.loc["dpo", "gain of the best, points"] == 1.5


def test_a_sweep_that_was_never_run_has_no_row():
    frame = sweeps.committed("paper", "comparison")
    assert frame.empty and list(frame.columns) == [*sweeps.COLUMNS, "gain", "diverged", "best"]
    assert "none was run" in sweeps.shown(frame).iloc[0, 0]


def test_methods_with_unequal_trials_are_refused():
    with pytest.raises(ValueError, match="same number of trials, got dpo 2, ppo 1"):
        sweeps.require_equal_counts({"dpo": [(1.0,), (2.0,)], "ppo": [(1.0,)]})


@pytest.mark.parametrize("profile", PROFILES)
def test_settings_are_the_winners_of_the_committed_sweep(profile):
    assert rlhf_sweep.differing(profile) == 0


def test_the_unbiased_estimators_have_no_bias_and_the_figure_says_so():
    moments = rlhf_reward.kl_moments()
    assert rlhf_reward.largest_bias(moments) < 1e-12
    assert rlhf_reward.kl_figure(moments).encode("png")


def test_rollouts_of_unequal_size_are_seen():
    logs = {"rloo": [pd.DataFrame({"answers": [64.0, 64.0]})], "ppo": [pd.DataFrame({"answers": [64.0, 60.0]})]}
    assert rlhf_reward.answers_apart(rlhf_reward.Climb(logs)) == 4
