"""Domain alignment, scale and Table 1: which stages they ask for, and verdicts that follow the data."""

import numpy as np
import pandas as pd
import pytest

from kd_answers import chat, shop, verdicts
from zephyr_lab.core import session, settings
from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.engine import stages
from zephyr_lab.lab import domain_alignment, kd_figures, kd_scale, kd_scores, kd_stages
from zephyr_lab.lab.domain_alignment import (
    ALIGNED,
    ALIGNED_BETA,
    BETA,
    BETA_2X,
    CONTROLS,
    DOMAIN_ONLY,
    DOSED,
    GAINS,
    MIXED,
    Alignment,
    AlignmentSettings,
    Routing,
    dose_row,
    share_row,
)
from zephyr_lab.lab.kd_scale import ALPHA, ALPHA_2X, ALPHA_DPO, BASE, EXPERT, LARGER, MERGED, SAME, Scale
from zephyr_lab.reporting import check

SEEDS = 3
ARMS = AlignmentSettings(shares=(0.02, 0.1, 0.5), doses=(5, 15), control_seeds=2, misrouted=0.5)
TRAINED = domain_alignment.models_of("tiny", 1, ARMS)
# a world in which every claim of the paper holds by a wide margin
DOMAIN = {ALPHA: 5.0, BETA: 6.0, ALPHA_2X: 5.5, BETA_2X: 7.0, share_row(0.5): 6.0, EXPERT: 8.0}
CHAT = {ALPHA: 7.0, BETA: 7.0, ALPHA_2X: 7.5, BETA_2X: 7.4, EXPERT: 4.0, ALPHA_DPO: 6.0}


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A session that writes below a folder of the test."""
    monkeypatch.setattr(session, "_current", session.Session("tiny", SEEDS, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    return tmp_path


@pytest.fixture
def losses(monkeypatch):
    """DAE losses without training: a level for the start each run has, 1x or 2x."""
    level = {"1x": 1.0, "2x": 0.5}

    def read(made):
        size = "2x" if made[0].inputs["student"].inputs["student"].name == "merge" else "1x"
        return [
            pd.DataFrame({"step": 5 * np.arange(1, 9), "loss": level[size] + seed / 1e3, "grad_norm": 1.0 + seed / 1e3})
            for seed in range(len(made))
        ]

    monkeypatch.setattr(kd_scores, "logs", read)
    monkeypatch.setattr(domain_alignment, "metrics", lambda stage: {"steps": 40.0})
    return level


def done_with(*, domain=DOMAIN, general=CHAT, seeds=SEEDS):
    """All arms as if trained and asked; controls have two seeds, the expert one."""
    doses = [dose_row(arm, step) for arm in DOSED for step in ARMS.doses]
    every = [ALPHA, ALPHA_2X, ALIGNED, *GAINS, share_row(0.5)]
    few = [share_row(0.02), *CONTROLS, *doses]

    def frame(make, levels):
        parts = [make(levels, every, range(seeds)), make(levels, few, range(ARMS.control_seeds))]
        return pd.concat([*parts, make(levels, [EXPERT], [0])], ignore_index=True)

    far = pd.DataFrame([
        {"seed": seed, "model": name, "kl": 0.1 + seed / 1e3, "tokens": 500.0}
        for name in (*every, *few)
        for seed in range(seeds)
    ])  # fmt: skip
    made = {name: [model.stage] * seeds for name, model in TRAINED.aligned.items()}
    return Alignment(ARMS, frame(chat, general), frame(shop, domain), far, made)


def judged(done):
    return verdicts(check.claims("kd_dae", domain_alignment.CLAIMS, domain_alignment.measured(done)))


def test_claims_that_hold_in_the_data_are_reproduced(running, losses):
    assert judged(done_with()) == dict.fromkeys(domain_alignment.CLAIMS, "reproduced")


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"domain": {**DOMAIN, BETA_2X: 5.0}}, "K6"),
        ({"domain": {**DOMAIN, BETA: 4.0}}, "K7"),
        ({"general": {**CHAT, BETA: 6.0}}, "K7"),
        ({"domain": {**DOMAIN, share_row(0.5): 7.0}}, "K8"),
    ],
)
def test_data_that_go_the_other_way_contradict(running, losses, changes, claim):
    assert judged(done_with(**changes))[claim] == "contradicted"


def test_a_higher_loss_of_the_larger_student_contradicts_k13(running, losses):
    losses["2x"] = 1.5
    assert judged(done_with())["K13"] == "contradicted"
    losses["2x"] = 1.0
    assert judged(done_with())["K13"] == "not resolved"


def test_one_seed_decides_nothing(running, losses):
    assert set(judged(done_with(seeds=1)).values()) == {"not resolved"}


def test_the_table_stands_beside_what_is_printed_of_alpha_and_beta(running, losses):
    table = domain_alignment.table(done_with()).set_index(["row", "metric", "kind"])["value"]
    assert table[BETA, "ecomm_eval", "quoted"] == 8.75
    assert table[ALPHA_2X, "mt_bench", "quoted"] == 7.7
    assert table[BETA, "ecomm_eval", "retrained"] == pytest.approx(6.02)
    assert table[BETA, kd_scores.RETENTION, "retrained"] == pytest.approx(0.101)


def test_controls_are_differences_from_the_same_start_on_their_own_seeds(running, losses):
    table = domain_alignment.against_start(done_with()).set_index(["row", "metric"])
    assert table.loc[(BETA, "ecomm_eval"), "value"] == pytest.approx(1.0)
    assert table.loc[(BETA, "ecomm_eval"), "seeds"] == SEEDS
    assert table.loc[(MIXED, "mt_bench"), "value"] == pytest.approx(-2.0)  # 5 unless said
    assert table.loc[(MIXED, "mt_bench"), "seeds"] == ARMS.control_seeds


def test_shares_and_doses_are_drawn_from_the_start_on(running, losses):
    done = done_with()
    shares = domain_alignment.shares(done)
    assert list(dict.fromkeys(shares["row"])) == ["2 %", "10 %", "50 %"]
    assert kd_figures.share_curves(shares).axes[0].get_lines()[1].get_xdata().tolist() == [2, 10, 50]
    doses = domain_alignment.doses(done)
    assert dose_row("start", 0) in set(doses["row"]) and dose_row(DOMAIN_ONLY, 40) in set(doses["row"])
    assert (doses["seeds"] == ARMS.control_seeds).all()  # every point of the curve over the same seeds
    longest = max(kd_figures.trade_off(doses).axes[0].get_lines(), key=lambda line: len(line.get_xdata()))
    assert longest.get_xdata()[0] == pytest.approx(5.01) and len(longest.get_xdata()) == 4  # start, 5, 15, 40


def shown(*rows):
    """Figure 3's batch; a row is (is_domain, teacher, loss_before, loss_after)."""
    names = ("is_domain", "teacher", "loss_before", "loss_after")
    return Routing(3, [{**dict(zip(names, row, strict=True)), "tokens": 9} for row in rows])


def test_general_rows_without_loss_are_told_from_others():
    assert domain_alignment.general_loss(shown((True, "expert", 0.4, 0.1), (False, "general", 0.0, 0.2))) == 0.0
    assert domain_alignment.general_loss(shown((True, "expert", 0.4, 0.1), (False, "general", 0.1, 0.2))) == 0.1


def test_a_batch_shows_the_routing_only_with_rows_of_both_kinds_and_a_student_that_moved():
    whole = shown((True, "expert", 0.4, 0.1), (False, "general", 0.0, 0.2))
    assert all(domain_alignment.routes_shown(whole).values())
    general = shown((False, "general", 0.0, 0.0), (False, "general", 0.0, 0.0))  # 16 such rows were once `ok`
    assert not any(domain_alignment.routes_shown(general).values())
    still = shown((True, "expert", 0.4, 0.4), (False, "general", 0.0, 0.0))
    lacking = [what for what, holds in domain_alignment.routes_shown(still).items() if not holds]
    assert lacking == ["a student that has left its reference"]


def test_figure_3_reads_the_final_model_of_seed_0_and_trains_nothing():
    read = domain_alignment.routing_stage(done_with())
    run = TRAINED.aligned[BETA].stage
    assert read.recipe == run.recipe and read.inputs["aligned"] is run
    assert {role: stages.key(stage) for role, stage in read.inputs.items() if role != "aligned"} == {
        role: stages.key(stage) for role, stage in run.inputs.items()
    }


def test_figure_3_s_table_has_a_line_a_row(running):
    path = kd_figures.save_routing(shown((True, "expert", 0.4, 0.1), (False, "general", 0.0, 0.2)))
    table = pd.read_csv(path)
    assert table["loss_after"].tolist() == [0.1, 0.2] and set(table["batch"]) == {4}


@pytest.mark.parametrize("profile", [profile for profile in PROFILES if profile not in ("gpu", "paper")])
def test_every_profile_of_the_world_has_its_arms(profile):
    arms = settings.load("kd_dae", profile, "alignment", AlignmentSettings)
    made = domain_alignment.models_of(profile, 0, arms)
    assert {*CONTROLS, *(share_row(share) for share in arms.shares if share != 0.1)} <= set(made.controls)
    assert set(made.aligned) == set(GAINS)


def test_arms_differ_in_what_their_names_say():
    start, dae, made = TRAINED.starts[ALPHA], TRAINED.aligned[BETA].stage, TRAINED.controls
    assert stages.key(dae.inputs["student"]) == stages.key(start.stage)
    assert made[MIXED].stage.inputs["dialogues"].recipe == dae.inputs["dialogues"].recipe
    assert made[DOMAIN_ONLY].stage.inputs["dialogues"].recipe.domain_share == 1.0
    assert made[domain_alignment.NO_REFERENCE].stage.recipe.reference_term is False
    assert made[domain_alignment.GENERAL].stage.inputs["general"].name == "larger_teacher"
    assert made[dose_row(BETA, 5)].stage is not None and made[dose_row(BETA, 5)].folder == "steps/5"
    assert stages.key(made[dose_row(BETA, 5)].stage) == stages.key(dae)
    assert made[share_row(0.5)].stage.inputs["dialogues"].recipe.domain_share == 0.5
    assert set(domain_alignment.models_of("tiny", 1, ARMS, every=False).controls) == {share_row(0.5)}


def test_settings_without_k8s_shares_are_refused():
    with pytest.raises(ValueError, match=r"shares must hold 0\.5, which claim K8 compares"):
        AlignmentSettings(shares=(0.1, 0.25), doses=(5,), control_seeds=1, misrouted=0.5)


def scale_with(general):
    models = (BASE, ALPHA, MERGED, ALPHA_2X, ALPHA_DPO)
    ranked = pd.DataFrame([
        {"seed": seed, "model": name, "sum": 0.5, "mean": 0.8, "pairs": 100.0}
        for name in models
        for seed in range(SEEDS)
    ])  # fmt: skip
    once = (SAME, LARGER, EXPERT)
    return Scale(
        pd.concat([chat(general, models, range(SEEDS)), chat(general, once, [0])], ignore_index=True),
        pd.concat([shop(DOMAIN, models, range(SEEDS)), shop(DOMAIN, once, [0])], ignore_index=True),
        ranked,
        {name: [TRAINED.starts[name].stage] * SEEDS for name in (ALPHA, ALPHA_2X)},
    )


def test_k9_follows_the_data(running):
    for level, verdict in ((6.0, "reproduced"), (8.0, "contradicted"), (7.0, "not resolved")):
        found = kd_scale.measured(scale_with({**CHAT, ALPHA_DPO: level}))
        assert verdicts(check.claims("kd_dae", kd_scale.CLAIMS, found)) == {"K9": verdict}


def test_the_table_of_scale_has_students_teachers_and_what_is_printed(running):
    table = kd_scale.table(scale_with(CHAT)).set_index(["row", "metric", "kind"])
    assert table.loc[(ALPHA, "mt_bench", "quoted"), "value"] == 7.58
    assert table.loc[(LARGER, "ecomm_eval", "quoted"), "value"] == 9.05
    assert table.loc[(ALPHA, "held-out pairs, %", "retrained"), "value"] == pytest.approx(80)
    assert table.loc[(SAME, "mt_bench", "retrained"), "interval"].startswith("1 seed")
    differences = kd_scale.differences(scale_with(CHAT)).set_index(["row", "metric"])["value"]
    assert differences["2x alpha - 1x alpha", "mt_bench"] == pytest.approx(0.5)


def test_the_2x_student_is_of_two_unlike_models_and_the_larger_teacher_teaches_both():
    students = kd_scale.students("tiny", 1)
    merged = students[MERGED].stage
    assert stages.key(merged.inputs["first"]) == stages.key(students[BASE].stage)
    assert stages.key(merged.inputs["second"]) == stages.key(kd_stages.sft("tiny", 1))
    assert stages.key(students[ALPHA_2X].stage.inputs["student"]) == stages.key(merged)
    for name in (ALPHA, ALPHA_2X):
        assert stages.key(students[name].stage.inputs["teacher"]) == stages.key(kd_stages.larger_teacher("tiny"))
    assert students[ALPHA].stage.recipe == students[ALPHA_2X].stage.recipe
    assert stages.key(TRAINED.starts[ALIGNED].stage.inputs["policy"]) == stages.key(kd_stages.sft("tiny", 1))
    assert ALIGNED_BETA in GAINS
