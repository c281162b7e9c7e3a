import json
import random
import statistics
from itertools import combinations

import numpy as np
import pytest

from zephyr_lab.world.answers import CLEAN, POOR
from zephyr_lab.world.completions import FOUR, Procedural, Prompt, completions, prompts
from zephyr_lab.world.facts import build
from zephyr_lab.world.judge import grade
from zephyr_lab.world.ratings import ASPECTS, Rater, domain_aspects, true_aspects
from zephyr_lab.world.shop import shop

MADE = completions(0, 2500)


def every_completion(made):
    for row, label, prompt in zip(made.rows, made.labels, made.prompts, strict=True):
        for completion, exact in zip(row["completions"], label.exact, strict=True):
            yield prompt, completion, exact


def test_rows_are_in_ultrafeedbacks_schema():
    for row in MADE.rows:
        assert row["source"] == "world" and row["instruction"]
        assert row["models"] == [one["model"] for one in row["completions"]]
        assert sorted(row["models"]) == sorted(writer.name for writer in FOUR)
        for one in row["completions"]:
            assert set(one["annotations"]) == set(ASPECTS)
            ratings = [one["annotations"][aspect]["Rating"] for aspect in ASPECTS]
            assert set(ratings) <= {"1", "2", "3", "4", "5", "N/A"}
            numbers = [int(rating) for rating in ratings if rating != "N/A"]
            assert one["fine-grained_score"] == statistics.fmean(numbers)
            assert 1 <= one["overall_score"] <= 10 and (2 * one["overall_score"]).is_integer()
    json.dumps(MADE.rows)


def test_labels_hold_the_exact_scores():
    for prompt, completion, exact in every_completion(MADE):
        assert grade(prompt.turn, completion["response"]).exact == exact


def test_every_model_stands_in_every_place_equally_often():
    for place in range(4):
        counts = [sum(row["models"][place] == writer.name for row in MADE.rows) for writer in FOUR]
        assert max(abs(count - 625) for count in counts) < 4 * (2500 * 0.25 * 0.75) ** 0.5


def test_two_fifths_are_second_turns_with_an_ideal_history():
    second = [(row, prompt) for row, prompt in zip(MADE.rows, MADE.prompts, strict=True) if row["history"]]
    assert len(second) / 2500 == pytest.approx(0.4, abs=0.04)
    for row, prompt in second:
        question, answer = prompt.task.turns[0], row["history"]
        assert answer == [
            {"role": "user", "content": question.prompt},
            {"role": "assistant", "content": question.ideal},
        ]
        assert row["instruction"] == prompt.task.turns[1].prompt


def agreement(made, value):
    """Share of pairs (best by `value`, random other) in which the first is truly better; ties count half."""
    rng, points = random.Random(0), 0.0
    for row, label in zip(made.rows, made.labels, strict=True):
        values = [value(one) for one in row["completions"]]
        best = values.index(max(values))
        rest = rng.choice([place for place in range(4) if place != best])
        points += 1.0 if label.exact[best] > label.exact[rest] else 0.5 if label.exact[best] == label.exact[rest] else 0
    return points / len(made.rows)


@pytest.mark.parametrize("score", ["overall_score", "fine-grained_score"])
def test_the_chosen_answer_is_better_in_about_four_of_five_pairs(score):
    assert agreement(MADE, lambda one: one[score]) == pytest.approx(0.8, abs=0.03)


def test_without_noise_the_chosen_answer_is_never_worse():
    quiet = completions(0, 300, rater=Rater(overall_sd=0.0))
    for row, label in zip(quiet.rows, quiet.labels, strict=True):
        scores = [one["overall_score"] for one in row["completions"]]
        assert max(label.exact) - label.exact[scores.index(max(scores))] <= 0.25  # rounding to half points


def test_the_four_aspects_are_not_one_number():
    verdicts = [grade(prompt.turn, one["response"]) for prompt, one, _ in every_completion(MADE)]
    table = np.array([list(true_aspects(verdict).values()) for verdict in verdicts])
    correlations = np.corrcoef(table.T)
    assert all(correlations[one, two] < 0.9 for one, two in combinations(range(4), 2))
    honesty, helpfulness = ASPECTS.index("honesty"), ASPECTS.index("helpfulness")
    assert correlations[honesty, helpfulness] < 0.65
    # what the overall score's mean cannot tell: each aspect keeps variance of its own
    for aspect in range(4):
        others = np.column_stack([np.delete(table, aspect, axis=1), np.ones(len(table))])
        fitted = others @ np.linalg.lstsq(others, table[:, aspect], rcond=None)[0]
        assert np.var(table[:, aspect] - fitted) > 0.1 * np.var(table[:, aspect])
    assert table.min() >= 1 and table.max() <= 5


def turn_of(known):
    tasks = (prompt.task for prompt in prompts(0, 500))
    return next(task.turns[0] for task in tasks if task.turns[0].known == known and task.category == "stem")


def test_honesty_costs_helpfulness():
    known, unknown = turn_of(True), turn_of(False)
    ideal = true_aspects(grade(known, known.ideal))
    assert set(ideal.values()) == {5}
    refused = true_aspects(grade(known, "I do not know that."))
    assert refused["truthfulness"] == 5 and refused["helpfulness"] == 1 and refused["honesty"] < 5
    honest = true_aspects(grade(unknown, unknown.ideal))
    made_up = true_aspects(grade(unknown, f"{unknown.wrong_core} {unknown.wrong_explanation}"))
    assert honest["honesty"] == honest["truthfulness"] == 5 > honest["helpfulness"]
    assert made_up["helpfulness"] == 5 and made_up["honesty"] == made_up["truthfulness"] == 1


def test_padding_costs_instruction_following_and_looks_like_help():
    turn = turn_of(True)
    plain, padded = grade(turn, turn.core), grade(turn, f"{turn.core} Have a good day and come back soon.")
    assert true_aspects(padded)["instruction_following"] < true_aspects(plain)["instruction_following"]
    rater = Rater(aspect_sd=0.0, shared_sd=0.0, length_bias=0.25)
    ratings = [rater.aspects(random.Random(0), one, "stem")["helpfulness"] for one in (plain, padded)]
    assert int(ratings[1]) > int(ratings[0])


def test_domain_aspects_are_ten_for_ideal_answers_and_fall_with_their_cause():
    rng = random.Random(0)
    for _ in range(100):
        turn = shop(rng, build()).turns[0]
        assert set(domain_aspects(grade(turn, turn.ideal)).values()) == {10}
        bare = domain_aspects(grade(turn, turn.core))
        assert bare["accuracy"] == bare["factuality"] == 10 and bare["helpfulness"] == 5.5
        wrong = domain_aspects(grade(turn, f"{turn.wrong_core} {turn.wrong_explanation}"))
        assert wrong["accuracy"] <= 5.5 and wrong["factuality"] <= 4
        refused = domain_aspects(grade(turn, "I do not know that."))
        assert refused["factuality"] == 10 and refused["accuracy"] == 1


def test_not_applicable_is_said_of_creative_text_only():
    made = completions(1, 800, rater=Rater(not_applicable=0.5))
    found = {"creative": 0, "other": 0}
    for prompt, one, _ in every_completion(made):
        kind = "creative" if prompt.task.category in ("writing", "roleplay") else "other"
        lacking = {aspect for aspect in ASPECTS if one["annotations"][aspect]["Rating"] == "N/A"}
        assert lacking <= {"truthfulness", "honesty"}
        found[kind] += len(lacking)
    assert found["other"] == 0 < found["creative"]


def test_ones_are_recorded_as_tens_where_that_is_planted():
    wrong, right = (completions(2, 400, rater=Rater(ten_for_one=share)) for share in (1.0, 0.0))

    def scores(made):
        return [one["overall_score"] for row in made.rows for one in row["completions"]]

    assert 1.0 in scores(right) and 1.0 not in scores(wrong)


def test_of_many_generators_some_are_drawn_for_each_prompt():
    many = tuple(Procedural(f"writer {number}", POOR if number else CLEAN) for number in range(9))
    made = completions(4, 900, generators=many)
    assert all(len(set(row["models"])) == len(row["completions"]) == 4 for row in made.rows)
    counts = [sum(writer.name in row["models"] for row in made.rows) for writer in many]
    assert max(abs(count - 400) for count in counts) < 4 * (900 * 4 / 9 * 5 / 9) ** 0.5


def test_generators_that_cannot_serve_are_refused():
    with pytest.raises(ValueError, match="4 completions a prompt need as many generators"):
        completions(0, 1, generators=FOUR[:3])
    with pytest.raises(ValueError, match="different names"):
        completions(0, 1, generators=(*FOUR, FOUR[0]))
    with pytest.raises(ValueError, match="count must not be negative"):
        prompts(0, -1)


def test_a_first_turn_has_no_history():
    prompt = Prompt(prompts(0, 1)[0].task, 0)
    assert prompt.history == [] and prompt.messages == [{"role": "user", "content": prompt.turn.prompt}]


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match=r"aspect_sd must not be negative, got -0\.5"):
        Rater(aspect_sd=-0.5)
