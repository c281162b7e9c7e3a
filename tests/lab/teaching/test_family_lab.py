"""The words for losses of the DPO family: what a verb trains, what it refuses, what sampled answers say."""

from dataclasses import asdict

import pandas as pd
import pytest

from zephyr_lab.core import files, session
from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.engine import stages
from zephyr_lab.lab import Lab
from zephyr_lab.lab.teaching import sweeps, teaching_lab
from zephyr_lab.lab.teaching.policies import ON_PAIRS, Points
from zephyr_lab.lab.teaching.teaching_lab import FamilyTerms, FamilyTuned
from zephyr_lab.reporting.claims import Part
from zephyr_lab.scoring.intervals import t_interval


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 3, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    return Lab("teaching", "smoke", 2)


def start_and_pairs(lab):
    return lab.sft(lab.base(), lab.dialogues()), lab.pairs()


def recipe(arm):
    return arm.stage(0).recipe


def test_each_verb_trains_its_own_loss_at_the_sweeps_values(lab):
    start, pairs = start_and_pairs(lab)
    verbs = {
        "dpo": lab.family_dpo, "ipo": lab.ipo, "cdpo": lab.cdpo, "kto": lab.kto, "orpo": lab.orpo, "simpo": lab.simpo,
    }  # fmt: skip
    tuned, terms = lab.sizes("family_tuned", FamilyTuned), lab.sizes("family_terms", FamilyTerms)
    for loss, verb in verbs.items():
        own = recipe(verb(start, pairs))
        assert (own.loss, (own.learning_rate, own.strength)) == (loss, getattr(tuned, loss))
    assert recipe(lab.cdpo(start, pairs)).second == terms.smoothing
    assert recipe(lab.simpo(start, pairs)).second == terms.gamma
    assert recipe(lab.kto(start, pairs)).second == recipe(lab.kto(start, pairs)).sft_weight == 0.0


def test_a_keyword_wins_and_changes_no_other_arm(lab):
    start, pairs = start_and_pairs(lab)
    assert recipe(lab.ipo(start, pairs, tau=0.7)).strength == 0.7
    assert recipe(lab.orpo(start, pairs, weight=2.0)).strength == 2.0
    assert recipe(lab.simpo(start, pairs, beta=4.0, gamma=0.5)).second == 0.5
    assert recipe(lab.cdpo(start, pairs, label_smoothing=0.3)).second == 0.3
    assert recipe(lab.family_dpo(start, pairs, sft_weight=0.2, learning_rate=1e-5)).learning_rate == 1e-5
    key = stages.key(lab.ipo(start, pairs).stage(1))
    assert stages.key(lab.ipo(start, pairs, tau=None).stage(1)) == key
    assert repr(lab.ipo(start, pairs, tau=0.7)).startswith("IPO under seeds 0 to 1: tau 0.7, ")


def test_a_phase_starts_from_the_arm_before(lab):
    start, pairs = start_and_pairs(lab)
    dpo = lab.family_dpo(start, pairs)
    assert lab.orpo(dpo, pairs).stage(1).inputs["policy"] == dpo.stage(1)


def test_what_a_verb_does_not_have_is_named(lab):
    start, pairs = start_and_pairs(lab)
    with pytest.raises(ValueError, match="IPO has no keyword 'strength'; its own are tau, see FamilyRecipe"):
        lab.ipo(start, pairs, strength=1.0)
    with pytest.raises(ValueError, match=r"FamilyRecipe has no field 'betta'; it has .*learning_rate"):
        lab.kto(start, pairs, betta=1.0)
    with pytest.raises(ValueError, match="against must be the start's name, one of DPO; got 'dSFT'"):
        lab.sampled({"DPO": lab.family_dpo(start, pairs)}, against="dSFT")
    first = lab.dpo(start, pairs, epochs=2, keep_epochs=True).after_epoch(1)
    with pytest.raises(ValueError, match="KL is measured to the final model of a training, got dDPO"):
        lab.sampled({"first": first}, against="first")
    with pytest.raises(ValueError, match="a sweep tries dpo, ipo, cdpo, kto, orpo, simpo; got dpo"):
        lab.family_sweep({"dpo": lambda rate, beta: start}, again=False)


def test_the_log_is_a_loss_a_step_of_every_seed(lab, monkeypatch, tmp_path):
    start, pairs = start_and_pairs(lab)
    folders = [tmp_path / "0", tmp_path / "1"]
    for place, folder in enumerate(folders):
        folder.mkdir()
        files.write_json(folder / "losses.json", [0.7 + place, 0.6])
    monkeypatch.setattr(teaching_lab, "get_many", lambda stages: folders)
    log = lab.ipo(start, pairs).log()
    assert log.to_dict("list") == {"seed": [0, 0, 1, 1], "step": [1, 2, 1, 2], "loss": [0.7, 0.6, 1.7, 0.6]}


@pytest.mark.parametrize("profile", PROFILES)
def test_settings_are_the_winners_of_the_committed_sweep(profile, lab):
    best = sweeps.winners(sweeps.committed(profile, sweeps.FAMILY))
    tuned = asdict(Lab("teaching", profile, 1).sizes("family_tuned", FamilyTuned))
    assert all(tuned[loss] == values for loss, values in best.items())


MEASURED = pd.DataFrame([
    {"seed": seed, "model": model, "point": "final", "kl": 0.5, "quality": level + 0.1 * seed, "words": 9.0, **more}
    for model, level, more in (
        ("start", 5.0, {}),
        ("DPO", 6.0, {"held_out_accuracy_mean": 0.8, "held_out_moved_chosen": -1.0, "held_out_moved_rejected": -3.0,
                      "held_out_pairs": 180}),
    )
    for seed in range(3)
])  # fmt: skip
UNKEPT = pd.DataFrame(columns=["seed", "model", "point", "question", "quality"])  # no answer is at hand
ANSWERS = Points(MEASURED, UNKEPT, "start", 160, 1000.0)


def test_answers_are_means_and_differences_paired_by_seed():
    (mean,) = ANSWERS.means(arms=["DPO"]).to_dict("records")
    assert mean["value"] == pytest.approx(6.1) and (mean["n"], mean["seeds"]) == (160, 3)
    assert (mean["low"], mean["high"]) == pytest.approx(t_interval([6.0, 6.1, 6.2]))
    (gain,) = ANSWERS.differences({"gain": ("DPO", "start")}).to_dict("records")
    assert gain["value"] == pytest.approx(1.0) and gain["high"] - gain["low"] == pytest.approx(0.0, abs=1e-9)
    part = Part("m", "higher", 0.1, "", arms=("DPO", "start"), measure="true reward")
    assert ANSWERS.effect("X", part)["value"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no arm named 'PPO'; there are start, DPO"):
        ANSWERS.values("PPO")


def test_what_training_measured_on_pairs_is_there_for_the_arms_that_measured_it():
    table = ANSWERS.means(*ON_PAIRS)
    assert set(table["row"]) == {"DPO"} and set(table["n"]) == {180}
    assert table["value"].tolist() == pytest.approx([80.0, -1.0, -3.0])
    assert ANSWERS.named({"ours": "DPO"}).arms == ["start", "ours"]
