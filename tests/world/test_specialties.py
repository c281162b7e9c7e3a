"""The clinic and the specialists' answers: clean ones are worth 10, wrong ones are not, and what they say is true."""

import random
import re

import pytest

from zephyr_lab.engine.symbols import reading_now
from zephyr_lab.world import catalogue, specialties
from zephyr_lab.world.facts import LARGE, build
from zephyr_lab.world.judge import grade
from zephyr_lab.world.specialties import LARGE_ILLNESSES, clinic, draw_clinic, illnesses
from zephyr_lab.world.task import is_held_out, normalise, phrase


def tasks(name, count=200, facts=None, **more):
    rng = random.Random(0)
    return [specialties.draw(rng, facts or build(), name, **more) for _ in range(count)]


def turns(name, **more):
    return [turn for task in tasks(name, **more) for turn in task.turns]


@pytest.mark.parametrize("name", specialties.SPECIALTIES)
def test_the_ideal_answer_has_ten_and_no_flaw(name):
    for turn in turns(name) + turns(name, count=50, facts=build(LARGE)):
        verdict = grade(turn, turn.ideal)
        assert (verdict.exact, verdict.core, verdict.explanation, verdict.style, verdict.cost) == (10, 1, 1, 3, 0)


@pytest.mark.parametrize("name", specialties.SPECIALTIES)
def test_wrong_answers_fail_half_of_the_checks_and_wrong_explanations_lack_the_key(name):
    for turn in turns(name) + turns(name, count=50, facts=build(LARGE)):
        misled = grade(turn, f"{turn.wrong_core} {turn.wrong_explanation}")
        assert misled.core <= 0.5 and misled.explanation == 0
        assert phrase(turn.key) not in normalise(turn.wrong_explanation)


@pytest.mark.parametrize("name", specialties.SPECIALTIES)
def test_no_instance_stands_on_both_sides(name):
    assert all(is_held_out(task.key) for task in tasks(name, held_out=True))
    assert not any(is_held_out(task.key) for task in tasks(name))


@pytest.mark.parametrize("name", specialties.SPECIALTIES)
def test_equal_first_prompts_are_one_instance(name):
    keys = {}
    for task in tasks(name, count=1000):
        assert keys.setdefault(normalise(task.turns[0].prompt), task.key) == task.key


def test_an_unknown_specialty_is_refused():
    with pytest.raises(ValueError, match="no specialty named 'law'; known: math, code, clinic"):
        specialties.draw(random.Random(0), build(), "law")


def test_worked_sums_and_their_checks_are_right():
    for turn in turns("math"):
        a, sign, b, value, x = re.fullmatch(r"Work: (\d+) (.) (\d+) = (\d+), so x = (\d+)\.", turn.core).groups()
        assert eval(f"{a} {sign} {b}") == int(value) == int(x)
        left, right = re.fullmatch(r"Check: (.+) = (\d+)\.", turn.explanation).groups()
        assert eval(left) == int(right) == int(a)


def test_functions_pass_the_test_they_state():
    found = 0
    for turn in turns("code"):
        if match := re.fullmatch(r"Code: def (\w)\(x\): y = (.+); return y\.", turn.core):
            found += 1
            name, start, value = re.fullmatch(r"Test: (\w)\((\d+)\) = (-?\d+)\.", turn.explanation).groups()
            assert name == match[1]
            # One step, or a chain of plus and minus: read from left to right, as Python does.
            assert eval(match[2], {"x": int(start)}) == int(value)
    assert found > 200


def test_a_turn_without_a_sum_cannot_be_worked_out():
    task = catalogue.draw(random.Random(0), build(), "stem")
    with pytest.raises(ValueError, match="no sum to work out"):
        specialties.worked(task.turns[0])


# --- the clinic -------------------------------------------------------------------------------------------------------


def test_illnesses_are_different_and_a_child_can_take_half():
    known = illnesses(LARGE_ILLNESSES)
    assert len({one.name for one in known}) == len({one.remedy for one in known}) == LARGE_ILLNESSES
    assert all(one.drops % 2 == 0 for one in known)
    assert illnesses(12) == known[:12]  # a larger clinic keeps the facts of the smaller one
    assert {one.urgent for one in illnesses(12)} == {True, False}
    with pytest.raises(ValueError, match="from 4 to 48, got 60"):
        illnesses(60)


def test_the_right_option_is_the_remedy_of_the_illness():
    remedies = {one.name: one.remedy for one in illnesses()}
    seen = 0
    rng = random.Random(0)
    for _ in range(400):
        task = clinic(rng, build())
        illness = re.search(r"has (\w+ \w+)\.", task.turns[0].prompt)[1]
        for turn in task.turns:
            if turn.group == "choice":
                seen += 1
                letter, remedy = re.fullmatch(r"Answer: (\w), (\w+)\.", turn.core).groups()
                assert remedy == remedies[illness]
                assert f"{letter} {remedy}" in turn.prompt
    assert seen > 50


def test_there_are_enough_held_out_questions():
    rng = random.Random(1)
    assert len({draw_clinic(rng, build(), held_out=True).key for _ in range(2000)}) > 320


def test_the_catalogue_does_not_know_the_clinic():
    # Bases, dialogues and benchmarks hang on it; their keys must not move with this domain.
    reached = reading_now().of(
        "zephyr_lab.methods.stages.pretrain:build", "zephyr_lab.methods.stages.world_data:build_dialogues"
    )
    modules = {name.partition(":")[0] for name in reached.uses}
    assert "zephyr_lab.world.catalogue" in modules
    assert not {"zephyr_lab.world.specialties"} & modules
