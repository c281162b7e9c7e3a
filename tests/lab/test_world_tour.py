"""Notebook 01: the rubric as documented, writers in order, planted errors found again, the price of noise."""

import pandas as pd
import pytest

from zephyr_lab.core import session
from zephyr_lab.lab import planted_errors, rating_noise, world_tour
from zephyr_lab.world.catalogue import MAKERS
from zephyr_lab.world.ratings import ASPECTS

SETTINGS = world_tour.WorldTour(
    world="tiny",
    prompts=400,
    noise_sds=(1.0, 2.0),
    position_biases=(0.0, 1.0),
    length_biases=(0.0, 0.1),
    rating_sds=(0.0, 2.5),
    bases=2,
)


@pytest.fixture(autouse=True)
def running():
    session.begin("smoke", 2, notebook="01_test")


@pytest.fixture(scope="module")
def sets():
    return [world_tour.completions(seed, SETTINGS.prompts, size=SETTINGS.size) for seed in range(2)]


@pytest.fixture(scope="module")
def answers(sets):
    return world_tour.answers_frame(sets)


def value(table, row, metric):
    found = table[(table["row"] == row) & (table["metric"] == metric)]
    assert len(found) == 1
    return found["value"].iloc[0]


@pytest.mark.parametrize("profile", ["smoke", "tiny", "world-gpu", "gpu", "paper"])
def test_every_profile_has_settings(profile):
    assert world_tour.settings_of(profile).prompts >= 100


def test_one_dialogue_of_four_messages_a_category():
    shown = world_tour.examples("smoke")
    assert list(shown.columns) == ["category", "user 1", "assistant 1", "user 2", "assistant 2"]
    assert list(shown["category"]) == list(MAKERS)
    assert shown.map(bool).all(axis=None)


def test_the_shown_parts_add_up_to_the_shown_score():
    shown = world_tour.rubric("smoke").set_index("answer is")
    parts = shown.drop(columns=shown.columns[0]).astype(float)
    whole = 1 + 4 * parts["core"] + 2 * parts["explanation"] - parts["cost"]
    whole += parts["complete"] + parts["capital"] + parts["no preface"]
    # nothing right: 3 at most
    nothing = (parts["core"] < 0.25) & (parts["explanation"] == 0)
    assert list(parts["score"]) == list(whole.where(~nothing, whole.clip(upper=3)))
    assert parts.loc["ideal", "score"] == 10 and len(set(parts["score"])) >= 6


def test_prices_of_style_are_one_point_and_of_a_missing_explanation_two():
    lost = world_tour.prices("smoke", 1)
    for defect, points in {"lower case": 1, "disclaimer preface": 1, "no explanation": 2}.items():
        assert value(lost, defect, "points") == points
    assert value(lost, "wrong throughout", "points") > value(lost, "wrong core", "points") > 3


def test_writers_rank_as_their_noise_does_and_every_share_adds_up(answers):
    table = world_tour.writers(answers)
    exact = [value(table, writer, "exact") for writer in ("strong", "medium", "weak", "poor")]
    assert exact == sorted(exact, reverse=True)
    shares = world_tour.histograms(answers).groupby(["writer", "metric"])["value"].sum()
    assert list(shares) == pytest.approx([100] * 8)


def test_correlations_leave_out_what_is_not_applicable(answers):
    rated, true = world_tour.correlations(answers), world_tour.correlations(answers, true=True)
    assert len(rated) == len(true) == 6 * 5 / 2
    with_ratings = answers[["honesty", "instruction_following"]].dropna()
    row = rated[(rated["row"] == "honesty") & (rated["metric"] == "instruction_following")].iloc[0]
    assert row["n"] == len(with_ratings) < len(answers)
    assert row["value"] == pytest.approx(with_ratings.corr().iloc[0, 1])
    # rating noise weakens every relation between aspects
    between = true["row"].isin(ASPECTS)
    assert (rated.loc[between, "value"] < true.loc[between, "value"]).all()


def test_without_noise_the_better_answer_is_chosen_and_with_noise_less_often(sets):
    order = rating_noise.true_order(sets, (0.0, 2.5, 8.0))
    better = order[order["metric"] == "better"].set_index("x")["value"]
    assert better[0.0] > 99  # overall scores come in half points, so two answers 0.2 apart may tie
    assert 75 < better[2.5] < 92
    assert better[8.0] < better[2.5]
    line = rating_noise.order_curve(order)
    assert list(line["x"]) == [0.0, 2.5, 8.0] and list(line["y"]) == list(better)


def test_planted_errors_are_found_again_within_their_intervals(sets):
    found = planted_errors.recovered(SETTINGS, sets)
    assert len(found) == 2 + 2 * 2 * 2 * 3
    held = planted_errors.coverage(planted_errors.recovered_by_seed(SETTINGS, sets, times=2)).set_index("row")
    assert list(held["n"]) == [4 * 2, 4 * 8, 4 * 8, 4 * 8]
    # 32 intervals of 95 %: fewer than 28 would hold with a probability of 2 %, fewer than 27 of 0.5 %
    assert (held.loc[list(planted_errors.ERRORS), "value"] >= 100 * 27 / 32).all()
    assert (found["low"] < found["high"]).all()


def test_an_interval_that_misses_lowers_the_coverage(sets):
    found = planted_errors.recovered(SETTINGS, sets)
    missed = found.assign(planted=found["high"] + 1)
    assert (planted_errors.coverage([missed])["value"] == 0).all()
    assert (planted_errors.coverage([missed, found.assign(planted=found["low"])])["value"] == 50).all()


def test_the_same_answer_is_judged_once(sets):
    twice = planted_errors.recovered(SETTINGS, [sets[0], sets[0]])
    once = planted_errors.recovered(SETTINGS, [sets[0]])
    pd.testing.assert_frame_equal(twice, once)


def probed(seeds):
    turns = {0: (0.2, 0.4), 1: (0.4, 0.8), 2: (0.6, 0.9)}
    rows = [(seed, "math", *turns[seed], 40) for seed in seeds]
    return pd.DataFrame(rows, columns=["seed", "category", "first_turn", "second_turn", "tasks"])


def test_skills_are_means_over_bases_with_a_t_interval():
    means = world_tour.skill_means(probed([0, 1, 2])).set_index("metric")
    first = means.loc["first_turn"]
    assert first["value"] == pytest.approx(40) and (first["kind"], first["n"], first["seeds"]) == ("retrained", 40, 3)
    assert first["high"] - first["value"] == pytest.approx(4.302653 * 20 / 3**0.5, abs=1e-4)


def test_one_base_has_no_mean():
    assert world_tour.skill_means(probed([1])).empty


def test_no_more_bases_than_the_profile_allows(monkeypatch):
    monkeypatch.setattr(world_tour, "skills", lambda profile, seeds: probed(range(seeds)))
    assert list(world_tour.base_skills("smoke", 3)["seed"]) == [0, 1]
    assert list(world_tour.base_skills("smoke", 1)["seed"]) == [0]


def test_the_exact_judge_is_held_to_its_known_figures():
    for known in world_tour.known_figures("smoke", 2):
        assert known.got == known.expected, known.what


def test_settings_that_leave_nothing_to_estimate_are_refused():
    with pytest.raises(ValueError, match="prompts must be at least 2"):
        world_tour.WorldTour(**{**vars_of(SETTINGS), "prompts": 1})


def vars_of(chosen):
    return {name: getattr(chosen, name) for name in chosen.__dataclass_fields__}
