"""Multiple choice: the leaderboard's rules, paired differences, and a base that is asked once."""

import pandas as pd
import pytest

from zephyr_lab.lab import Lab
from zephyr_lab.lab.choices import MEASURES, RULES, ChoiceMeasure, Choices, with_points
from zephyr_lab.reporting.claims import Part
from zephyr_lab.world.choices import SHOTS

MEAN = ChoiceMeasure("mean")
FACTS = ChoiceMeasure("facts", task="facts")


def chosen(right: dict[str, int], *, seeds: int = 2, questions: int = 10, once=("base",)) -> Choices:
    """Arms that answer the first `right[arm]` of each set's questions, one more on later seeds."""
    rows = [
        {"seed": seed, "model": arm, "task": task, "question": f"{task} {number}", "examples": 3}
        | dict.fromkeys(RULES, float(number < count + seed))
        for arm, count in right.items()
        for seed in range(1 if arm in once else seeds)
        for task in SHOTS
        for number in range(questions)
    ]
    return Choices(pd.DataFrame(rows), frozenset(once))


CHOICES = chosen({"base": 3, "a": 5, "b": 6})


def test_rules_read_log_probabilities_and_lengths():
    row = {"answer": 1, "log_probs": [-6.0, -8.0], "characters": [3, 8]}
    points = with_points(pd.DataFrame([row])).iloc[0]
    assert (points["by character"], points["summed"]) == (1, 0)
    assert points["share of probability"] == pytest.approx(1 / (1 + 2.718281828459045**2))


def test_the_base_is_asked_once_and_its_interval_says_so():
    rows = CHOICES.means(MEAN, FACTS).set_index(["row", "metric"])
    assert rows.loc[("base", "mean"), "interval"] == "1 base: 40 questions, bootstrap 95 %"
    assert rows.loc[("a", "mean"), "interval"] == "2 seeds x 40 questions, two-way 95 %"
    assert rows.loc[("a", "facts"), "value"] == pytest.approx(55)  # 5 of 10, then 6 of 10


def test_differences_are_paired_by_seed_and_the_base_stands_for_every_seed():
    table = CHOICES.differences({"b - a": ("b", "a"), "a - base": ("a", "base")}, FACTS).set_index("row")
    assert table.loc["b - a", "value"] == pytest.approx(10)
    assert table.loc["b - a", "interval"] == "2 equal seeds: 10 questions, bootstrap 95 %"  # 10 points under both
    assert table.loc["a - base", "seeds"] == 2 and table.loc["a - base", "value"] == pytest.approx(25)


@pytest.mark.parametrize(("after", "effect"), [(4, -0.1), (7, 0.2)])
def test_an_effect_is_a_share_of_questions(after, effect):
    (measure,) = MEASURES
    part = Part("m", "not lower", 0.01, "", arms=("b", "a"), measure=measure)
    assert chosen({"a": 5, "b": after}).effect("Z7", part)["value"] == pytest.approx(effect)


def test_choices_are_named_and_joined():
    assert CHOICES.named({"first": "base", "x": "a"}).once == {"first"}
    assert (CHOICES | chosen({"c": 1})).arms == ["base", "a", "b", "c"]
    with pytest.raises(ValueError, match="both have an arm named 'a'"):
        CHOICES | chosen({"a": 1})
    with pytest.raises(ValueError, match="no arm named 'd'; there are base, a, b"):
        CHOICES.values("d", MEAN)


def test_every_set_says_how_many_examples_fit():
    assert CHOICES.examples().set_index("set").loc["reasoning"].tolist() == [10, 25, 3.0]


def test_an_arm_that_is_one_model_for_all_seeds_is_known():
    lab = Lab("zephyr", "smoke", 2)
    assert lab.base().same_for_all_seeds and not lab.sft(lab.base(), lab.dialogues()).same_for_all_seeds
    assert not lab.with_seeds(1).base().same_for_all_seeds  # one seed shares nothing
