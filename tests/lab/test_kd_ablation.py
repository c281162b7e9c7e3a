"""The ablation of KD: which stages it asks for, and verdicts that follow the data whichever way they go."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kd_answers import chat, verdicts
from zephyr_lab.core import session, settings
from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.engine import stages
from zephyr_lab.lab import kd_ablation, kd_ablation_claims, kd_scores, kd_stages
from zephyr_lab.lab.kd_ablation import (
    ALIGNED,
    ATTENTION,
    BASE,
    CONTROLS,
    KD,
    KD_QUALITY,
    LARGER,
    NEEDED,
    PREDICTION,
    QUALITY,
    RANDOM,
    TABLE_2,
    TEACHERS,
    Ablation,
    AblationSettings,
)
from zephyr_lab.reporting import check
from zephyr_lab.scoring.spread import log_variance_ratio
from zephyr_lab.world.benchmark import mt_bench

SEEDS = 3
ARMS = AblationSettings(control_seeds=2, judgings=3, judge_sd=1.0, longest=40, pairs=256)
# a world in which every claim of the paper holds by a wide margin
HOLDS = {
    BASE: 2.0, RANDOM: 4.0, QUALITY: 5.0, ATTENTION: 5.5, PREDICTION: 6.5, KD: 7.5, LARGER: 8.5, KD_QUALITY: 7.6,
    ALIGNED: 6.0,
}  # fmt: skip
ASKED = kd_ablation.models_of("tiny", 0)
WIDE, NARROW = (0.0, 0.9, -0.9, 0.5, -0.5, 0.7), (0.0, 0.01, -0.01, 0.02, -0.02, 0.015)


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A session that writes below a folder of the test."""
    monkeypatch.setattr(session, "_current", session.Session("tiny", SEEDS, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    return tmp_path


@pytest.fixture
def logs(monkeypatch):
    """Logs of ten rows without training: the untrained loss of an arm goes from 1 to `ends[arm]`."""
    ends = {ATTENTION: 0.5, PREDICTION: 0.5, KD: 0.5}

    def read(made):
        recipe = made[0].recipe
        alone = ATTENTION if recipe.attention_weight else PREDICTION
        arm = KD if recipe.prediction_weight and recipe.attention_weight else alone
        lines = [np.linspace(1.0, ends[arm], 10) + seed / 1e3 for seed in range(SEEDS)]
        return [pd.DataFrame({"step": range(10), "prediction_loss": line, "attention_loss": line}) for line in lines]

    monkeypatch.setattr(kd_scores, "logs", read)
    return ends


def done_with(levels, *, seeds=SEEDS, spread=(WIDE, NARROW)):
    """All arms as if trained; `spread`: what seeds add to SFT and to KD among the arms of K2."""
    models = (BASE, *TABLE_2, *CONTROLS)
    repeated = chat(levels, (RANDOM, KD), range(2 * seeds), apart=0.0)
    for arm, added in zip((RANDOM, KD), spread, strict=True):
        rows = repeated["model"] == arm
        repeated.loc[rows, "score"] += repeated.loc[rows, "seed"].map(dict(enumerate(added)))
    answers = chat(levels, models, range(seeds))
    answers = answers[~answers["model"].isin(set(CONTROLS) - set(NEEDED)) | (answers["seed"] < ARMS.control_seeds)]
    return Ablation(
        ARMS, answers, repeated, chat(levels, (RANDOM, KD), range(3)), chat({}, TEACHERS, [0]),
        {name: [model.stage] * seeds for name, model in ASKED.items()}, mt_bench(320),
    )  # fmt: skip


def judged(done):
    return verdicts(check.claims("kd_dae", kd_ablation_claims.CLAIMS, kd_ablation_claims.measured(done)))


def test_claims_that_hold_in_the_data_are_reproduced(running, logs):
    assert judged(done_with(HOLDS)) == dict.fromkeys(kd_ablation_claims.CLAIMS, "reproduced")


@pytest.mark.parametrize(
    ("levels", "claim"),
    [
        ({KD: 3.0}, "K1"),
        ({KD: 6.0, LARGER: 7.0}, "K3"),
        ({PREDICTION: 5.0}, "K3"),
        ({ATTENTION: 3.5}, "K3"),
        ({LARGER: 7.0}, "K4"),
        ({QUALITY: 3.5}, "K5"),
        ({ALIGNED: 8.0}, "K12"),
        ({KD_QUALITY: 9.5}, "K14"),
    ],
)
def test_data_that_go_the_other_way_contradict(running, logs, levels, claim):
    assert judged(done_with({**HOLDS, **levels}))[claim] == "contradicted"


def test_an_untrained_loss_that_rises_contradicts_k10(running, logs):
    logs[ATTENTION] = 1.5
    assert judged(done_with(HOLDS))["K10"] == "contradicted"


def test_spreads_decide_k2_whichever_way_they_lie(running, logs):
    assert judged(done_with(HOLDS, spread=(NARROW, WIDE)))["K2"] == "contradicted"
    assert judged(done_with(HOLDS, spread=(WIDE, WIDE)))["K2"] == "not resolved"


def test_k2_is_the_log_of_the_ratio_of_variances_with_its_f_interval(running, logs):
    row = kd_ablation_claims.variance_ratio(done_with(HOLDS))
    expected = log_variance_ratio(list(NARROW), list(WIDE))
    assert row["value"] == pytest.approx(expected.value) == pytest.approx(math.log(np.var(NARROW) / np.var(WIDE)))
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.interval))
    assert (row["n"], row["seeds"]) == (4 * SEEDS, 2 * SEEDS)


def test_one_seed_decides_nothing_but_what_needs_none(running, logs):
    done = done_with(HOLDS, seeds=1)
    found = kd_ablation_claims.measured(done).set_index("row")
    assert found.drop(["K2", "K10"])["low"].isna().all()
    # two runs an arm: K2 has an interval, and it is far too wide
    assert judged(done)["K1"] == "not resolved"


def test_the_chance_to_resolve_rises_with_runs_and_with_the_ratio(running, logs):
    table = kd_ablation_claims.resolving_power(done_with(HOLDS)).set_index("ratio of standard deviations")
    assert table.loc["as printed", "value"] == pytest.approx(0.051 / 0.368)
    assert table.loc["one half"].filter(like="power").is_monotonic_increasing
    assert (table.loc["as printed"].filter(like="power") > table.loc["one half"].filter(like="power")).all()


def test_table_2_stands_beside_what_is_printed_means_and_deviations(running, logs):
    table = kd_ablation.table_2(done_with(HOLDS)).set_index(["row", "metric", "kind"])
    assert table.loc[(KD, "mt_bench", "quoted"), "value"] == 7.05
    assert table.loc[(KD, kd_ablation.DEVIATION, "quoted"), "value"] == 0.051
    assert table.loc[(KD, "mt_bench", "retrained"), "value"] == pytest.approx(HOLDS[KD] + 0.02)
    assert table.loc[(KD, kd_ablation.DEVIATION, "retrained"), "value"] == pytest.approx(0.02)
    assert table.loc[(KD, "win_rate", "retrained"), "value"] == 100
    assert set(table.loc[table.index.get_level_values("kind") == "quoted"].reset_index()["row"]) == set(TABLE_2)


def test_controls_say_how_many_seeds_they_have(running, logs):
    table = kd_ablation.controls(done_with(HOLDS)).query("metric == 'mt_bench'").set_index("row")
    assert table.loc["KD: quality-assured - random", "seeds"] == SEEDS
    assert table.loc["KD: cross-entropy too - none", "seeds"] == ARMS.control_seeds
    assert table.loc["KD - dSFT + dDPO", "value"] == pytest.approx(1.5)


def test_figure_4_has_a_line_for_each_trained_loss(running, logs):
    curves = kd_ablation.losses(done_with(HOLDS))
    assert list(curves) == ["attention", "prediction"]
    for frame in curves.values():
        assert list(dict.fromkeys(frame["series"])) == ["attention alone", "prediction alone", "both"]
        assert frame.groupby("series")["y"].first().to_numpy() == pytest.approx(1.001)


def test_spreads_of_training_asking_and_judging_are_told_apart(running, logs):
    table = kd_ablation.spreads(done_with(HOLDS)).set_index(["row", "metric"])["value"]
    assert table[RANDOM, "trained again"] == pytest.approx(np.std(WIDE, ddof=1))
    assert table[KD, "trained again"] == pytest.approx(np.std(NARROW, ddof=1))
    assert table[KD, "asked again"] == pytest.approx(0.02)
    assert 0 < table[KD, "judged again"] < 1


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_its_arms(profile):
    settings.load("kd_dae", profile, "ablation", AblationSettings)
    if profile != "paper":  # whose domain data stand in a folder
        assert set(kd_ablation.models_of(profile, 0)) == {BASE, *TABLE_2, *CONTROLS}


def test_arms_differ_in_what_their_names_say_and_in_nothing_else():
    models = {name: model.stage for name, model in kd_ablation.models_of("tiny", 1).items()}
    both = models[KD].recipe
    assert models[ATTENTION].recipe == replace(both, prediction_weight=0.0)
    assert models[PREDICTION].recipe == replace(both, attention_weight=0.0)
    assert models[LARGER].recipe == models[KD_QUALITY].recipe == both
    assert (both.prediction_weight, both.attention_weight, both.ce_weight) == (1.0, 1.0, 0.0)
    same = stages.key(models[KD].inputs["dialogues"])
    assert same == stages.key(models[RANDOM].inputs["dialogues"]) != stages.key(models[QUALITY].inputs["dialogues"])
    assert stages.key(models[LARGER].inputs["teacher"]) == stages.key(kd_stages.larger_teacher("tiny"))
    assert set(kd_ablation.models_of("tiny", 1, controls=False)) == {BASE, *TABLE_2, *NEEDED}
    assert stages.key(kd_ablation.repeated_models("tiny", 1)[KD].stage) == stages.key(models[KD])


def test_settings_that_leave_no_spread_are_refused():
    with pytest.raises(ValueError, match="judgings 2, got 3 and 1"):
        AblationSettings(control_seeds=3, judgings=1, judge_sd=1.0, longest=40, pairs=256)
