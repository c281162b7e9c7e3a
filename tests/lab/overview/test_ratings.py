"""The rubric as documented, writers in order, planted errors recovered, the price of noise, skills over bases."""

import itertools

import pandas as pd
import pytest

from zephyr_lab.lab.overview import judging, ratings, skills
from zephyr_lab.lab.sizes import PreferencePairs, WorldTour
from zephyr_lab.world.answers import IDEAL, PREFACES, Flavour
from zephyr_lab.world.catalogue import MAKERS
from zephyr_lab.world.completions import completions
from zephyr_lab.world.facts import TINY
from zephyr_lab.world.judge import PairJudge, RubricJudge
from zephyr_lab.world.ratings import ASPECTS, Rater

WRITERS = ("strong", "medium", "weak", "poor")
DEFECTS = {
    "wrong core": Flavour(core="wrong"),
    "wrong throughout": Flavour(core="wrong", explanation="wrong"),
    "no explanation": Flavour(explanation="none"),
    "lower case": Flavour(case="lower_start"),
    "disclaimer preface": Flavour(preface=PREFACES[0]),
    "broken off": Flavour(truncated=True),
}


@pytest.fixture(scope="module")
def sets():
    return [completions(seed, 400) for seed in range(2)]


@pytest.fixture(scope="module")
def answers(sets):
    return ratings.frame(sets)


def value(table, row, metric):
    found = table[(table["row"] == row) & (table["metric"] == metric)]
    assert len(found) == 1
    return found["value"].iloc[0]


def test_one_dialogue_of_four_messages_a_category():
    shown = judging.dialogues(TINY)
    assert list(shown.columns) == ["category", "user 1", "assistant 1", "user 2", "assistant 2"]
    assert list(shown["category"]) == list(MAKERS)
    assert shown.map(bool).all(axis=None)


def test_the_shown_parts_add_up_to_the_shown_score():
    turn = judging.task("math", TINY, draw="tour rubric").turns[0]
    shown = judging.judged(turn, {"ideal": IDEAL, **DEFECTS}).set_index("answer is")
    parts = shown.drop(columns=shown.columns[0]).astype(float)
    whole = 1 + 4 * parts["core"] + 2 * parts["explanation"] - parts["cost"]
    whole += parts["complete"] + parts["capital"] + parts["no preface"]
    # nothing right: 3 at most
    nothing = (parts["core"] < 0.25) & (parts["explanation"] == 0)
    assert list(parts["score"]) == list(whole.where(~nothing, whole.clip(upper=3)))
    assert parts.loc["ideal", "score"] == 10 and len(set(parts["score"])) >= 5


def test_prices_of_style_are_one_point_and_of_a_missing_explanation_two(sets):
    lost = judging.prices([prompt.turn for prompt in sets[0].prompts], DEFECTS)
    for defect, points in {"lower case": 1, "disclaimer preface": 1, "no explanation": 2}.items():
        assert value(lost, defect, "points") == points
    assert value(lost, "wrong throughout", "points") > value(lost, "wrong core", "points") > 3


def test_writers_rank_as_their_noise_does_and_every_share_adds_up(answers):
    table = ratings.means(answers, WRITERS)
    exact = [value(table, writer, "exact") for writer in WRITERS]
    assert exact == sorted(exact, reverse=True)
    shares = ratings.histograms(answers, WRITERS).groupby(["writer", "metric"])["value"].sum()
    assert list(shares) == pytest.approx([100] * 8)


def test_correlations_leave_out_what_is_not_applicable(answers):
    rated, true = ratings.correlations(answers), ratings.correlations(answers, true=True)
    assert len(rated) == len(true) == 6 * 5 / 2
    with_ratings = answers[["honesty", "instruction_following"]].dropna()
    row = rated[(rated["row"] == "honesty") & (rated["metric"] == "instruction_following")].iloc[0]
    assert row["n"] == len(with_ratings) < len(answers)
    assert row["value"] == pytest.approx(with_ratings.corr().iloc[0, 1])
    # rating noise weakens every relation between aspects
    between = true["row"].isin(ASPECTS)
    assert (rated.loc[between, "value"] < true.loc[between, "value"]).all()


def test_without_noise_the_better_answer_is_chosen_and_with_noise_less_often(sets):
    order = ratings.true_order(sets, {f"sd {sd}": Rater(overall_sd=sd) for sd in (0.0, 2.5, 8.0)})
    better = order[order["metric"] == "better"].set_index("x")["value"]
    assert better[0.0] > 99  # overall scores come in half points, so two answers 0.2 apart may tie
    assert 75 < better[2.5] < 92
    assert better[8.0] < better[2.5]
    line = ratings.order_curve(order)
    assert list(line["x"]) == [0.0, 2.5, 8.0] and list(line["y"]) == list(better)


def judges(opinion):
    """One judge of answers and eight of pairs: every combination of two noises and two of each bias."""
    planted = itertools.product((1.0, 2.0), (0.0, 1.0), (0.0, 0.1))
    pairwise = {
        str(errors): PairJudge(noise_sd=errors[0], position_bias=errors[1], length_bias=errors[2], seed=opinion)
        for errors in planted
    }
    return {"answers": RubricJudge(noise_sd=2.0, seed=opinion), **pairwise}


@pytest.fixture(scope="module")
def found(sets):
    return judging.recovered(judges(0), sets)


def test_planted_errors_are_recovered_within_their_intervals(sets, found):
    assert len(found) == 1 + 8 * 3 and (found["low"] < found["high"]).all()
    again = [judging.recovered(judges(1 + place), [made]) for place, made in enumerate(sets)]
    held = judging.coverage([found, *again]).set_index("row")
    assert list(held["n"]) == [3, 24, 24, 24]
    # 24 intervals of 95 %: fewer than 20 would hold with a probability of 0.6 %
    assert (held.loc[list(judging.ERRORS), "value"] >= 100 * 20 / 24).all()


def test_an_interval_that_misses_lowers_the_coverage(found):
    missed = found.assign(planted=found["high"] + 1)
    assert (judging.coverage([missed])["value"] == 0).all()
    assert (judging.coverage([missed, found.assign(planted=found["low"])])["value"] == 50).all()


def test_the_same_answer_is_judged_once(sets):
    few = {"answers": RubricJudge(noise_sd=2.0), "pairs": PairJudge(noise_sd=1.0)}
    twice, once = judging.recovered(few, [sets[0], sets[0]]), judging.recovered(few, [sets[0]])
    pd.testing.assert_frame_equal(twice, once)


def probed(seeds):
    turns = {0: (0.2, 0.4), 1: (0.4, 0.8), 2: (0.6, 0.9)}
    rows = [(seed, "math", *turns[seed], 40) for seed in seeds]
    return pd.DataFrame(rows, columns=["seed", "category", "first_turn", "second_turn", "tasks"])


def test_skills_are_means_over_bases_with_a_t_interval():
    means = skills.means(probed([0, 1, 2])).set_index("metric")
    first = means.loc["first_turn"]
    assert first["value"] == pytest.approx(40) and (first["kind"], first["n"], first["seeds"]) == ("retrained", 40, 3)
    assert first["high"] - first["value"] == pytest.approx(4.302653 * 20 / 3**0.5, abs=1e-4)


def test_one_base_has_no_mean():
    assert skills.means(probed([1])).empty


def test_sizes_that_leave_nothing_to_estimate_are_refused():
    rest = {"noise_sds": (), "position_biases": (), "length_biases": (), "rating_sds": (), "bases": 1}
    for kind, more in ((WorldTour, rest), (PreferencePairs, {})):
        with pytest.raises(ValueError, match="prompts must be at least 2"):
            kind(world="tiny", prompts=1, **more)
