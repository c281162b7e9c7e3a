"""The toy's studies from plain results: means, intervals, checks and claims worked by hand."""

import pytest

from zephyr_lab.core import settings
from zephyr_lab.lab import toy, toy_family, toy_figures
from zephyr_lab.methods.recipes.toy import FamilyRuns
from zephyr_lab.scoring.intervals import t_interval

POINT = {
    "method": "DPO",
    "to_point": [1e-12, 2e-12],
    "to_optimum": [1e-9, 3e-9],
    "lost": [0.1, 0.3],
    "reward": [1.0, 2.0],
    "to_reference": [0.5, 0.7],
}
ARMS = ("DPO, to the end", "reward model, to the end", "log-ratio without reference")
FOUND = {
    "points": [POINT],
    "curves": [{"method": "DPO", "step": step, "kl": [10.0**-step, 10.0 ** (-step - 2)]} for step in (0, 1)],
    "preferences": [
        {"count": count, "arm": arm, "lost": [0.1 + place, 0.3 + place], "twin": [1e-13, 2e-13]}
        for count in (10, 100)
        for place, arm in enumerate(ARMS)
    ],
    "paths": [
        {"count": count, "step": step, "lost": [0.5, 0.6], "train": [0.5, 0.4], "held_out": held_out}
        for count in (10, 100)
        for step, held_out in ((0, [0.7, 0.7]), (1, [0.5, 0.6]), (2, [0.8, 0.65]))
    ],
    "penalties": [{"count": 10, "penalty": one, "lost": [0.2, 0.4]} for one in (0.1, 1.0)],
    "draws": [{"draws": 6400, "kl": [0.1, 0.3], "lost": [0.2, 0.4]}],
}
FAMILY = {
    "frontier": [{"beta": 1.0, "reward": [1.0, 2.0], "to_reference": [0.5, 0.7], "lost": [0.0, 0.0]}],
    "drawn": [
        {"method": "IPO", "value": tau, "lost": [lost, lost], "reward": [1.0, 2.0], "to_reference": [0.2, 0.4]}
        for tau, lost in ((0.1, 0.4), (0.3, 0.2))
    ],
    "later": [
        {"method": "DPO, then ORPO", "step": step, "lost": lost, "reward": [0, 0], "to_reference": [0, 0]}
        for step, lost in ((0, [0.2, 0.3]), (5, [0.5, 0.4]))
    ],
}


def test_points_are_means_with_the_t_interval_over_toys():
    row = toy.points(FOUND, prompts=8).set_index("metric").loc["lost, %"]
    low, high = t_interval([10.0, 30.0])
    assert row["value"] == pytest.approx(20.0)
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    assert (row["n"], row["seeds"], row["source"]) == (8, 2, "exact toy")


def test_what_must_be_exact_is_the_worst_toy():
    known = {one.what: one.got for one in toy.known_points(FOUND)}
    assert known["DPO: KL from its derived point to where it ends"] == 2e-12
    assert known["DPO: KL to the optimum"] == 3e-9
    assert known["DPO less reward model with closed form, log-probs at any step"] == 2e-13


def test_lines_on_log_scales_are_geometric_means():
    line = toy.convergence(FOUND)
    assert line["y"].tolist() == pytest.approx([0.1, 0.01])
    low, high = t_interval([0.0, -2.0])
    assert line["low"][0] == pytest.approx(10**low) and line["high"][0] == pytest.approx(10**high)


def test_the_claims_effects_are_paired_by_toy():
    effects = toy.effects(FOUND, prompts=8).set_index("row")
    assert effects.loc["S1-17", "value"] == pytest.approx(200.0) and effects.loc["S1-17", "n"] == 100
    assert effects.loc["S1-23", "value"] == pytest.approx(2e-9) and effects.loc["S1-23", "n"] == 8
    assert (effects["seeds"] == 2).all()
    assert toy_family.effects(FAMILY, n=60).loc[0, "value"] == pytest.approx(20.0)


def test_one_toy_gives_an_effect_without_interval():
    single = {
        section: [{k: v[:1] if isinstance(v, list) else v for k, v in row.items()} for row in rows]
        for section, rows in FOUND.items()
    }
    assert toy.effects(single, prompts=8)["low"].isna().all()
    assert toy.points(single, prompts=8).empty


def test_the_best_of_equal_trials_is_named_with_its_knob():
    table = toy_family.best_trials(FAMILY, "drawn", n=60)
    assert set(table["row"]) == {"IPO, tau 0.3"}
    assert table.set_index("metric").loc["lost, %", "value"] == pytest.approx(20.0)


@pytest.mark.parametrize("profile", ["smoke", "tiny", "world-gpu", "gpu", "paper"])
def test_every_profile_makes_both_stages(profile, monkeypatch):
    assert toy.stage(profile, 2).recipe.seeds == 2
    assert len(toy_family.stage(profile, 2).recipe.betas) == len(toy_family.stage(profile, 2).recipe.taus)
    with pytest.raises(ValueError, match="unknown key"):
        settings.load("teaching", profile, ("toy", "knobs", "runs"), FamilyRuns, seeds=2)


def test_the_figures_show_every_series():
    picture = toy_figures.few_preferences(
        toy.by_count(FOUND), toy.by_step(FOUND, "lost", scale=100.0), toy.by_penalty(FOUND)
    )
    left, middle, right = picture.axes
    assert {text.get_text() for text in left.get_legend().get_texts()} == set(ARMS)
    assert [text.get_text() for text in middle.get_legend().get_texts()] == ["10", "100"]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["10"]
    assert toy_figures.convergence(toy.convergence(FOUND)).axes[0].get_yscale() == "log"
    drawn = toy_family.lines(FAMILY, "drawn")
    frontiers = toy_figures.frontiers(toy_family.frontier(FAMILY), drawn, drawn, count=60)
    assert {text.get_text() for text in frontiers.legends[0].get_texts()} == {"optimum, any beta", "IPO"}
    assert len(toy_figures.later(toy_family.later(FAMILY)).axes[0].get_lines()) == 1
