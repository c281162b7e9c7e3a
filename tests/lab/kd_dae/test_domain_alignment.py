"""Domain alignment as an experiment: claims that follow the answers, and arms that are what their words say."""

import dataclasses

import pytest

from kd_answers import chat, shop
from zephyr_lab.core import session, settings
from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.lab import Lab
from zephyr_lab.lab.answers import Answers
from zephyr_lab.lab.sizes import AlignmentArms

# a world in which every claim of the paper holds by a wide margin
DOMAIN = {
    "1x alpha": 5.0,
    "1x beta": 6.0,
    "2x alpha": 5.5,
    "2x beta": 7.0,
    "DAE, 10 % domain": 6.0,
    "DAE, 50 % domain": 6.0,
}
CHAT = {"1x alpha": 7.0, "1x beta": 7.0}
HOLDS = dict.fromkeys(("K6", "K7", "K8"), "reproduced")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A laboratory that writes below a folder of the test; nothing is trained."""
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    return Lab("kd_dae", "tiny", 3)


def verdicts(lab, capsys, *, domain=DOMAIN, general=CHAT, seeds=3):
    answers = Answers(chat(general, DOMAIN, range(seeds)), domain=shop(domain, DOMAIN, range(seeds)))
    capsys.readouterr()
    for claim in HOLDS:
        lab.claims.decide(claim, answers)
    lines = (line for line in capsys.readouterr().out.splitlines() if line.startswith("K"))
    return {line.split(" ")[0]: line[3:].partition(":")[0] for line in lines}


def test_claims_that_hold_in_the_answers_are_reproduced(lab, capsys):
    assert verdicts(lab, capsys) == HOLDS


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"domain": {**DOMAIN, "2x beta": 5.0}}, "K6"),
        ({"domain": {**DOMAIN, "1x beta": 4.0}}, "K7"),
        ({"general": {**CHAT, "1x beta": 6.0}}, "K7"),
        ({"domain": {**DOMAIN, "DAE, 50 % domain": 7.0}}, "K8"),
    ],
)
def test_answers_that_go_the_other_way_contradict(lab, capsys, changes, claim):
    assert verdicts(lab, capsys, **changes) == {**HOLDS, claim: "contradicted"}


def test_one_seed_decides_nothing(lab, capsys):
    assert set(verdicts(lab, capsys, seeds=1).values()) == {"not resolved"}


def test_arms_of_domain_alignment_differ_in_what_their_words_say(lab):
    start, mixture, expert = lab.base(), lab.mixed_dialogues(), lab.domain_expert()
    dae = lab.dae(start, mixture, expert=expert).stage(1)
    taught = lab.dae(start, mixture, expert=expert, domain_teacher="general", general_teacher=lab.larger_teacher())
    assert taught.stage(1).inputs["general"].name == "larger_teacher" and "general" not in dae.inputs
    assert taught.stage(1).recipe == dataclasses.replace(dae.recipe, domain_teacher="general")
    alone = lab.tuned(start, lab.mixed_dialogues(domain_share=1.0)).stage(1)
    assert alone.inputs["dialogues"].recipe == dataclasses.replace(mixture.stage(1).recipe, domain_share=1.0)
    assert lab.mixed_dialogues(domain_share=None).stage(1) == mixture.stage(1)  # a knob that was left alone


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_its_shares_and_doses(profile):
    arms = settings.load("kd_dae", profile, "alignment", AlignmentArms)
    assert {0.1, 0.5} <= set(arms.shares) and min(arms.doses) > 0


def test_a_start_of_an_arm_that_is_not_asked_is_refused(lab):
    with pytest.raises(ValueError, match="start names an arm 'beta' that is not asked; asked: base"):
        lab.ask({"base": lab.base()}, start={"beta": lab.base()})


def test_settings_without_k8s_shares_are_refused():
    with pytest.raises(ValueError, match=r"shares must hold 0\.5, which claim K8 compares"):
        AlignmentArms(shares=(0.1, 0.25), doses=(5,), control_seeds=1, misrouted=0.5)
