"""Scores over seeds: means, paired differences and win rates by hand, and what one seed may not say."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from zephyr_lab.core import files, session
from zephyr_lab.lab import answer_scores, answers
from zephyr_lab.lab.answer_scores import HOT, NEAR_GREEDY, Measure
from zephyr_lab.lab.answers import Answers
from zephyr_lab.reporting import check

QUESTIONS = (81, 82, 161)  # the last is beyond the official 80


def answered(scores, *, run=NEAR_GREEDY):
    """Answers of models to QUESTIONS: scores[model][seed][question] is a pair, the scores of both turns."""
    rows = []
    for model, seeds in scores.items():
        for seed, questions in enumerate(seeds):
            for question, turns in zip(QUESTIONS, questions, strict=True):
                for turn, score in enumerate(turns, start=1):
                    rows.append({
                        "seed": seed, "model": model, "run": run, "question_id": question,
                        "category": "math" if question == 81 else "stem", "turn": turn, "score": float(score),
                        "core": score / 10, "finished": score > 5,
                    })  # fmt: skip
    return pd.DataFrame(rows)


TWO = answered({
    "old": [[(4, 6), (2, 2), (8, 4)], [(5, 5), (3, 3), (9, 5)], [(6, 6), (1, 3), (7, 7)]],
    "new": [[(5, 7), (2, 4), (9, 9)], [(5, 5), (5, 3), (9, 9)], [(8, 8), (1, 3), (6, 7)]],
})  # fmt: skip


def half_width(grid):
    """Of three seeds and three questions, the first of a set of its own: two that vary within a set, so one degree of
    freedom. The seeds' part and the questions', each by its own t, add as squares."""
    two = grid[:, 1:]
    between = 3 * two.mean(axis=0).var(ddof=1)
    apart = two[:, 0] - two[:, 1]  # of two questions the rest is half of what seeds do to their difference
    rest = ((apart - apart.mean()) ** 2).sum() / 2 / 2
    of_seeds = student.ppf(0.975, 2) ** 2 * grid.mean(axis=1).var(ddof=1) / 3
    return np.sqrt(of_seeds + student.ppf(0.975, 1) ** 2 * max(0.0, between - rest) / 9)


def test_a_models_number_is_a_mean_and_its_interval_over_seeds_and_questions():
    (line,) = Answers(TWO).means(arms=["old"]).to_dict("records")
    grid = np.array([[5, 2, 6], [5, 3, 7], [6, 2, 7]])
    assert (line["value"], line["high"] - line["low"]) == pytest.approx((grid.mean(), 2 * half_width(grid)))
    assert (line["n"], line["seeds"], line["kind"]) == (3, 3, "retrained")
    assert line["interval"] == "3 seeds x 3 questions, two-way 95 %"


def test_differences_are_paired_by_seed_and_question():
    line = Answers(TWO).differences({"new - old": ("new", "old")}).iloc[0]
    grid = np.array([[1, 1, 3], [0, 1, 2], [2, 0, -0.5]])
    half = half_width(grid)
    assert (line["value"], line["low"], line["high"]) == pytest.approx(
        (grid.mean(), grid.mean() - half, grid.mean() + half)
    )


def test_seeds_that_were_asked_different_questions_have_an_interval_over_seeds():
    apart = TWO[(TWO["question_id"] == 81) | (TWO["seed"] > 0)]
    line = Answers(apart).means(arms=["old"]).iloc[0]
    by_seed = np.array([5, 5, 5])  # means of what each was asked
    assert line["value"] == by_seed.mean() and line["interval"].startswith("3 equal seeds")
    apart = TWO[(TWO["question_id"] == 161) | (TWO["seed"] > 0)]
    line = Answers(apart).means(arms=["old"]).iloc[0]
    assert (line["value"], line["interval"]) == (pytest.approx((6 + 5 + 5) / 3), "3 seeds, t 95 %")


def test_the_official_size_and_single_turns_are_parts_of_the_same_answers():
    official = answer_scores.grid(TWO, "old", Measure("80", official=True))
    assert list(official.columns) == [("math", 81), ("stem", 82)]
    assert official.loc[0].tolist() == [5, 2]
    assert answer_scores.grid(TWO, "old", Measure("second", turn=2)).loc[0].tolist() == [6, 2, 4]
    assert answer_scores.grid(TWO, "old", Measure("%", "finished", scale=100.0)).loc[0].tolist() == [50, 0, 50]


def test_runs_are_never_mixed():
    both = pd.concat([TWO, answered({"old": [[(10, 10)] * 3] * 3}, run=HOT)])
    assert answer_scores.grid(both, "old").equals(answer_scores.grid(TWO, "old"))
    assert answer_scores.grid(both, "old", answer_scores.HOT_SCORE).to_numpy().tolist() == [[10] * 3] * 3


def test_a_win_is_decided_on_the_first_turn_and_a_draw_is_half():
    assert answer_scores.wins(TWO, "new", "old").to_numpy().tolist() == [[100, 50, 100], [50, 100, 50], [100, 50, 0]]
    line = Answers(TWO).win_rates(against="old").set_index("row")
    assert line.loc["old", "value"] == 50
    assert line.loc["new", "value"] == pytest.approx(600 / 9)


def test_categories_are_parts_of_the_whole():
    frame = Answers(TWO).by_category(["old"]).set_index("metric")
    assert frame.loc["math", "value"] == pytest.approx((5 + 5 + 6) / 3)
    assert frame.loc["stem", "n"] == 2


def test_the_order_of_answers_changes_nothing():
    shuffled = TWO.sample(frac=1.0, random_state=0)
    pd.testing.assert_frame_equal(Answers(shuffled).means(arms=["new"]), Answers(TWO).means(arms=["new"]))


def test_one_seed_has_a_bootstrap_over_questions_that_says_so():
    one = TWO[TWO["seed"] == 0]
    line = Answers(one).means(arms=["old"]).iloc[0]
    assert line["interval"] == "1 seed: 3 questions, bootstrap 95 %"
    assert (line["low"], line["high"]) == (2, 6)  # the best and worst question drawn three times
    assert line["seeds"] == 1


def test_seeds_that_are_equal_leave_the_questions_to_vary():
    # one model asked under three seeds, as the shared base is: questions of 2, 4 and 6
    same = answered({"base": [[(2, 2), (4, 4), (6, 6)]] * 3})
    line = Answers(same).means(arms=["base"]).iloc[0]
    assert line["interval"] == "3 equal seeds: 3 questions, bootstrap 95 %"
    assert (line["low"], line["value"], line["high"]) == (2, 4, 6)


def test_answers_that_are_all_equal_leave_room_to_the_ends_of_the_scale():
    top = answered({"base": [[(10, 10)] * 3] * 3})
    line = Answers(top).means(arms=["base"]).iloc[0]
    assert (line["low"], line["high"]) == pytest.approx((10 - 9 * (1 - 0.025 ** (1 / 3)), 10))
    assert line["interval"] == "3 equal seeds: 3 questions, Clopper-Pearson 95 %"


def test_a_model_draws_with_itself_by_definition():
    line = Answers(TWO).win_rates(against="new", arms=["new"]).iloc[0]
    assert (line["low"], line["value"], line["high"]) == (50, 50, 50)
    assert line["interval"] == "against itself: 50 by definition"


def test_one_seed_decides_no_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 1, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))

    def verdict(frame):
        metric = "chat score (1-10): dDPO, 1 epoch - dSFT"
        difference = answer_scores.grid(frame, "new") - answer_scores.grid(frame, "old")
        return repr(
            check.claims("zephyr", ["Z1"], answer_scores.effects([answer_scores.effect("Z1", metric, difference)]))
        )

    assert "not resolved: one seed gives no interval" in verdict(TWO[TWO["seed"] == 0])
    better = answered({"old": [[(1, 1)] * 3] * 3, "new": [[(2, 2)] * 3, [(3, 3)] * 3, [(2, 3)] * 3]})
    assert verdict(better).startswith("Z1  reproduced")
    worse = better.replace({"model": {"old": "new", "new": "old"}})
    assert verdict(worse).startswith("Z1  contradicted")


def test_an_unknown_model_is_named_with_those_that_are_there():
    with pytest.raises(ValueError, match=r"^no answers of a model named 'newer'; there are old, new$"):
        answer_scores.grid(TWO, "newer")


def test_answers_of_several_seeds_are_joined_in_the_order_of_seeds(tmp_path):
    folders = [tmp_path / str(seed) for seed in range(2)]
    for place, folder in enumerate(folders):
        files.write_json(folder / "answers.json", {"model": ["model"], "score": [place]})
        files.write_json(folder / "pairs.json", [{"model": "model", "sum": 0.5 + place, "mean": 0.5, "pairs": 2.0}])
    read = answers.read({"m": folders}, "answers.json")
    assert read.to_dict("list") == {"seed": [0, 1], "model": ["m", "m"], "score": [0, 1]}
    assert answers.read({"m": folders}, "pairs.json")["sum"].tolist() == [0.5, 1.5]
    assert answers.read({"m": folders}, "domain.json").empty
