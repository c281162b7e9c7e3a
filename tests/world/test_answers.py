import random

import pytest

from zephyr_lab.world import answers
from zephyr_lab.world.answers import (
    CLEAN,
    DIALOGUES,
    FILLERS,
    IDEAL,
    POOR,
    PREFACES,
    Flavour,
    Noise,
    answer,
    draw_flavour,
    render,
)
from zephyr_lab.world.catalogue import draw_general
from zephyr_lab.world.facts import build
from zephyr_lab.world.judge import grade
from zephyr_lab.world.task import Check, Turn

TURN = Turn(
    prompt="What is 7 plus 5?",
    core="The answer is 12.",
    wrong_core="The answer is 13.",
    checks=(Check(("is 12",)),),
    explanation="We have 7 + 5 = 12.",
    wrong_explanation="We have 7 + 5 = 13.",
    key="7 + 5 = 12",
    group="sum",
)


@pytest.mark.parametrize(
    ("flavour", "text", "defects"),
    [
        (IDEAL, "The answer is 12. We have 7 + 5 = 12.", ()),
        (Flavour(explanation="none"), "The answer is 12.", ("no_explanation",)),
        (
            Flavour(core="wrong", explanation="wrong"),
            "The answer is 13. We have 7 + 5 = 13.",
            ("wrong", "wrong_explanation"),
        ),
        (Flavour(core="refused", explanation="none"), "I do not know that.", ("refused", "no_explanation")),
        (Flavour(case="lower_start"), "the answer is 12. we have 7 + 5 = 12.", ("lower_start",)),
        (
            Flavour(preface=PREFACES[0], filler=FILLERS[0], case="all_lower"),
            "i do not have emotions. the answer is 12. we have 7 + 5 = 12. i hope this answer helps you today.",
            ("all_lower", "preface", "filler"),
        ),
    ],
)
def test_an_answer_bears_the_defects_of_its_flavour(flavour, text, defects):
    assert render(random.Random(0), TURN, flavour) == text
    assert flavour.defects == defects


def test_a_truncated_answer_breaks_off_inside():
    whole = TURN.ideal
    for seed in range(200):
        text = render(random.Random(seed), TURN, Flavour(truncated=True))
        assert 0 < len(text.split()) < len(whole.split())
        assert whole.startswith(text) and not text.endswith((".", "!"))


def test_casing_at_sentence_starts_leaves_names_alone():
    turn = Turn("", "Tom sees Ida.", "", (), "Ida sees Tom.", "", "ida sees", "")
    assert render(random.Random(0), turn, Flavour(case="lower_start")) == "tom sees Ida. ida sees Tom."


def share(defect, flavours):
    return sum(defect in flavour.defects for flavour in flavours) / len(flavours)


@pytest.mark.parametrize("noise", [DIALOGUES, POOR], ids=["dialogues", "poor"])
def test_defects_come_as_often_as_the_noise_says(noise):
    rng, count = random.Random(0), 4000
    flavours = [draw_flavour(rng, TURN, noise) for _ in range(count)]
    expected = {
        "wrong": noise.wrong,
        "refused": noise.refused,
        # a refusal never explains
        "no_explanation": 1 - noise.explanation * (1 - noise.refused),
        "wrong_explanation": 0.8 * noise.wrong * noise.explanation,
        "preface": noise.preface,
        "filler": noise.filler,
        "truncated": noise.truncated,
    }
    for defect, probability in expected.items():
        error = (probability * (1 - probability) / count) ** 0.5
        assert abs(share(defect, flavours) - probability) < 4 * error, defect
    cased = share("lower_start", flavours) + share("all_lower", flavours)
    assert abs(cased - noise.lower_case) < 4 * (noise.lower_case * (1 - noise.lower_case) / count) ** 0.5


def test_unknown_questions_are_answered_with_facts_at_the_rate_of_making_up():
    unknown = Turn("", "I do not know x.", "X is a gas.", (), "", "", "", "", known=False)
    rng = random.Random(0)
    flavours = [draw_flavour(rng, unknown, DIALOGUES) for _ in range(4000)]
    assert abs(share("wrong", flavours) - DIALOGUES.made_up) < 0.035
    assert share("refused", flavours) == 0


def test_clean_noise_writes_ideal_answers():
    rng = random.Random(0)
    for _ in range(300):
        turn = draw_general(rng, build(), domain_share=0.2).turns[0]
        assert answer(rng, turn, CLEAN) == (turn.ideal, IDEAL)


def test_dirtier_writers_score_lower():
    def mean(noise):
        rng = random.Random(0)
        turns = [turn for _ in range(300) for turn in draw_general(rng, build()).turns]
        return sum(grade(turn, answer(rng, turn, noise)[0]).exact for turn in turns) / len(turns)

    scores = [mean(getattr(answers, name)) for name in ("CLEAN", "TEACHER", "STRONG", "DIALOGUES", "WEAK", "POOR")]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 10 and scores[-1] < 5


@pytest.mark.parametrize(("name", "value"), [("wrong", 1.2), ("filler", -0.1)])
def test_noise_outside_0_to_1_is_refused(name, value):
    levels = dict.fromkeys(Noise.__dataclass_fields__, 0.1) | {name: value}
    with pytest.raises(ValueError, match=f"{name} is a probability, got {value}"):
        Noise(**levels)


def test_wrong_and_refused_exclude_each_other():
    levels = dict.fromkeys(Noise.__dataclass_fields__, 0.0) | {"wrong": 0.7, "refused": 0.4}
    with pytest.raises(ValueError, match="must not exceed 1"):
        Noise(**levels)
