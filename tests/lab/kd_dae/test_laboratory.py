"""The words of distillation: arms that differ by what they name alone, one teacher for all seeds, and claims."""

import dataclasses

import pandas as pd
import pytest

from kd_answers import chat, shop
from zephyr_lab.core import session, settings
from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.engine import stages
from zephyr_lab.lab import SCORE, Lab
from zephyr_lab.lab.answer_scores import DOMAIN
from zephyr_lab.lab.answers import Answers
from zephyr_lab.lab.sizes import AblationArms
from zephyr_lab.methods.recipes.kd import OwnLossKD

# A world in which every claim of the paper on these arms holds by a wide margin.
HOLDS = {
    "SFT random": 4.0, "SFT quality-assured": 5.0, "KD without prediction loss": 5.5, "KD without attention loss": 6.5,
    "KD, same-size teacher": 7.5, "KD, larger teacher": 8.5, "KD quality-assured": 7.6, "dSFT + dDPO": 6.0,
    "dSFT + dDPO, full dose": 7.0, "1x alpha": 7.0, "1x alpha + DPO, full dose": 6.0,
}  # fmt: skip
CLAIMS = ("K1", "K3", "K4", "K5", "K9", "K12", "K14")


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 2, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    return Lab("kd_dae", "tiny", 2)


def keys(arm):
    return [stages.key(arm.stage(seed)) for seed in range(2)]


def verdicts(lab, capsys, levels):
    answers = Answers(chat(levels, levels, range(3)))
    for claim in CLAIMS:
        lab.claims.decide(claim, answers)
    return dict(line.partition(":")[0].split(" ", 1) for line in capsys.readouterr().out.splitlines())


def test_arms_differ_in_what_they_name_and_in_nothing_else(lab):
    base, random, same = lab.base(), lab.dialogues(), lab.same_size_teacher()
    both = lab.kd(base, random, teacher=same)
    for name in ("prediction_weight", "attention_weight"):
        other = lab.kd(base, random, teacher=same, **{name: 0.0})
        assert dataclasses.replace(other.stage(1).recipe, **{name: 1.0}) == both.stage(1).recipe
        assert keys(lab.kd(base, random, teacher=same, **{name: None})) == keys(both)
    larger = lab.kd(base, random, teacher=lab.larger_teacher())
    assert larger.stage(1).recipe == both.stage(1).recipe and keys(larger) != keys(both)
    own = lab.sft(base, lab.own_answers(same, random))
    assert own.stage(1).recipe == lab.sft(base, random).stage(1).recipe
    assert own.stage(1).inputs["dialogues"].inputs["dialogues"] == random.stage(1)


def test_teachers_and_expert_are_one_for_all_seeds_and_data_are_not(lab):
    for arm in (lab.same_size_teacher(), lab.larger_teacher(), lab.domain_expert()):
        assert len(set(keys(arm))) == 1
    for rows in (lab.dialogues(), lab.quality_dialogues(), lab.scale_dialogues(), lab.mixed_dialogues()):
        assert len({stages.key(rows.stage(seed)) for seed in range(2)}) == 2


def test_a_run_opens_at_the_steps_that_it_keeps(lab):
    start, mixed, expert = lab.base(), lab.mixed_dialogues(), lab.domain_expert()
    run = lab.dae(start, mixed, expert=expert, keep_steps=(5, 10))
    assert run.after_step(5).of(1).folder == "steps/5" and keys(run.after_step(5)) == keys(run)
    after = lab.tuned(run.after_step(5), mixed)
    assert after.stage(0).recipe.start == "steps/5" and after.stage(0).inputs["base"] == run.stage(0)
    with pytest.raises(ValueError, match=r"no model after step 7: keep_steps is \(5, 10\)"):
        run.after_step(7)
    with pytest.raises(ValueError, match=r"this lab is tiny with 2 seeds, the arm tiny with 1"):
        lab.dae(start, mixed, expert=lab.with_seeds(1).domain_expert())


def test_a_loss_of_one_s_own_is_part_of_the_key_and_of_no_other_s(lab):
    base, random, same = lab.base(), lab.dialogues(), lab.same_size_teacher()
    half = 0.5

    def total_variation(student, teacher):
        return half * (student.softmax(dim=-1) - teacher.softmax(dim=-1)).abs().sum(dim=-1)

    arm = lab.kd(base, random, teacher=same, loss=total_variation)
    assert isinstance(arm.stage(0).recipe, OwnLossKD) and "loss total_variation" in repr(arm)
    before = keys(arm)
    half = 0.25
    assert keys(lab.kd(base, random, teacher=same, loss=total_variation)) != before
    assert type(lab.kd(base, random, teacher=same).stage(0).recipe) is not OwnLossKD


def test_pairs_of_equal_compute_are_prompts_of_the_world_and_rows_of_the_hub(lab):
    assert lab.pairs_of_equal_compute().stage(0).recipe.prompts == lab.sizes("ablation", AblationArms).pairs
    hub = object.__new__(type(lab))
    hub.__dict__.update({**lab.__dict__, "profile": "gpu"})
    assert hub.pairs_of_equal_compute().stage(0).recipe.rows == hub.sizes("ablation", AblationArms).pairs


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_its_counts(profile):
    settings.load("kd_dae", profile, "ablation", AblationArms)


def test_settings_that_leave_no_spread_are_refused():
    with pytest.raises(ValueError, match="judgings 2, got 3 and 1"):
        AblationArms(control_seeds=3, judgings=1, judge_sd=1.0, longest=40, pairs=256)


def test_claims_follow_the_data_whichever_way_they_go(lab, capsys):
    assert verdicts(lab, capsys, HOLDS) == dict.fromkeys(CLAIMS, "reproduced")
    for levels, claim in (
        ({"KD, same-size teacher": 3.0}, "K1"),
        ({"KD, same-size teacher": 6.0, "KD, larger teacher": 7.0}, "K3"),
        ({"KD without attention loss": 5.0}, "K3"),
        ({"KD without prediction loss": 3.5}, "K3"),
        ({"KD, larger teacher": 7.0}, "K4"),
        ({"SFT quality-assured": 3.5}, "K5"),
        ({"1x alpha + DPO, full dose": 8.0}, "K9"),
        ({"dSFT + dDPO": 8.0}, "K12"),
        ({"dSFT + dDPO, full dose": 8.0}, "K12"),
        ({"KD quality-assured": 9.5}, "K14"),
    ):
        assert verdicts(lab, capsys, {**HOLDS, **levels})[claim] == "contradicted", levels


def test_chat_and_domain_answers_join_and_each_measure_reads_its_own():
    levels = {"ours": 7.0, "theirs": 6.0}
    far = pd.DataFrame([{"seed": seed, "model": "ours", "kl": 0.1 + seed, "tokens": 9.0} for seed in (0, 1)])
    ranked = pd.DataFrame([{"seed": seed, "model": "ours", "mean": 0.5 + seed / 10, "pairs": 8} for seed in (0, 1)])
    ours = Answers(chat(levels, ["ours"], range(3)), ranked, shop({"ours": 4.0}, ["ours"], range(3)), far)
    theirs = Answers(chat(levels, ["theirs"], range(2)), domain=shop({"theirs": 5.0}, ["theirs"], range(2)))
    rows = (ours | theirs).differences({"gain": ("ours", "theirs")}, SCORE, DOMAIN).set_index("metric")
    assert rows["value"].to_dict() == pytest.approx({"mt_bench": 1.0, "ecomm_eval": -1.0})
    assert rows["seeds"].tolist() == [2, 2]
    (kl,) = ours.retention(["ours"]).to_dict("records")
    assert (kl["value"], kl["n"], kl["seeds"]) == (pytest.approx(0.6), 9, 2)
    (right,) = ours.accuracies(["ours"]).to_dict("records")
    assert (right["value"], right["n"]) == (pytest.approx(55.0), 8)


def test_the_parts_of_a_run_are_by_seed_and_of_logged_steps_alone(lab, monkeypatch):
    arm = lab.kd(lab.base(), lab.dialogues(), teacher=lab.same_size_teacher())
    lines = [
        {"seed": seed, "step": 5 * place, "loss": None if place == 3 else place + 10.0 * seed}
        for seed in (0, 1)
        for place in range(11)
    ]
    monkeypatch.setattr(type(arm), "log", lambda self: pd.DataFrame(lines))
    assert arm.part_means("loss", first=0.9) == [10.0, 20.0] and arm.part_means("loss", last=0.1) == [0.0, 10.0]
