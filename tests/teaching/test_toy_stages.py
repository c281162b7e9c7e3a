"""The toy's two stages on the smallest toys: what they write, that it is exact where it must be, and repeatable."""

import json
from dataclasses import asdict, replace

import pytest

from zephyr_lab.methods.recipes.toy import FamilyRuns, MethodKnobs, ToyRuns, ToySize
from zephyr_lab.teaching import family_runs, toy, toy_runs

SIZE = ToySize(prompts=2, answers=3, beta=0.5)
KNOBS = MethodKnobs(tau=0.2, label_smoothing=0.1, kto_beta=0.5, orpo_weight=1.0, simpo_beta=2.0, simpo_gamma=0.5)
RUNS = ToyRuns(
    **asdict(SIZE), **asdict(KNOBS), seeds=2,
    steps=40, rate=16.0, natural_steps=150, natural_rate=0.5, clip=0.2, inner=4,
    preferences=(40, 80), held_out=0.25, penalties=(0.3, 3.0), draws=(16, 64), samples=4, draw_rate=2.0,
)  # fmt: skip
FAMILY = FamilyRuns(
    **asdict(SIZE), **asdict(KNOBS), seeds=2, preferences=60, held_out=0.25, steps=15, rate=0.1, later_steps=10,
    betas=(0.2, 1.0), taus=(0.1, 0.5), kto_betas=(0.2, 0.5), orpo_weights=(0.3, 3.0), simpo_betas=(1.0, 3.0),
    sft_weights=(0.1, 1.0),
)  # fmt: skip


class Context:
    """A worker's context that only counts."""

    steps = 0

    def progress(self, done: int, of: int) -> None:
        assert done <= of
        self.steps = done


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    metrics = toy_runs.build(RUNS, seed=0, inputs={}, out=folder, context=Context())
    return json.loads((folder / "results.json").read_text()), metrics


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    family_runs.build(FAMILY, seed=0, inputs={}, out=folder, context=Context())
    return json.loads((folder / "results.json").read_text())


def test_every_method_ends_at_its_point_and_rlhf_s_at_the_optimum(built):
    results, metrics = built
    assert metrics["worst_point"] < 1e-6 and metrics["worst_twin"] < 1e-9
    distances = {row["method"]: max(row["to_optimum"]) for row in results["points"]}
    at_optimum = {method for method, distance in distances.items() if distance < 1e-6}
    assert at_optimum == {"DPO", "reward model", "policy gradient", "RLOO", "PPO"}
    assert set(distances) - at_optimum == {"IPO", "cDPO", "KTO", "ORPO", "SimPO", "SFT on chosen"}


def test_every_count_has_every_arm_with_a_number_a_toy(built):
    rows = built[0]["preferences"]
    assert {(row["count"], row["arm"]) for row in rows} == {
        (count, arm)
        for count in (40, 80)
        for arm in (
            "DPO, to the end",
            "reward model, to the end",
            "DPO, stopped early",
            "DPO, penalised",
            "log-ratio without reference",
        )
    }
    assert all(len(row["lost"]) == 2 for row in rows)


def test_the_chosen_stop_is_one_of_the_steps_and_has_the_smallest_held_out_loss(built):
    results, _ = built
    for count in (40, 80):
        way = {row["step"]: row["held_out"] for row in results["paths"] if row["count"] == count}
        stopped = next(
            row for row in results["preferences"] if (row["count"], row["arm"]) == (count, "DPO, stopped early")
        )
        for place, step in enumerate(stopped["choice"]):
            assert way[step][place] == min(losses[place] for losses in way.values())


def test_one_toy_more_leaves_the_others_as_they_were(tmp_path, built):
    toys, more = (toy.draw(range(count), **asdict(SIZE)) for count in (2, 3))
    ours, theirs = (toy_runs.few_preferences(given, RUNS)["preferences"] for given in (toys, more))
    for one, other in zip(ours, theirs, strict=True):
        assert other["lost"][:2] == pytest.approx(one["lost"], rel=1e-9)


def test_no_policy_of_the_family_lies_above_the_frontier(family):
    for best in family["frontier"]:
        for row in family["known"] + family["drawn"]:
            for place in range(2):
                ours, bound = (one["reward"][place] - best["beta"] * one["to_reference"][place] for one in (row, best))
                assert ours <= bound + 1e-9


def test_every_method_gets_the_same_number_of_trials(family):
    for section, methods in (("known", 6), ("drawn", 7)):
        counts = [
            sum(row["method"] == name for row in family[section]) for name in {r["method"] for r in family[section]}
        ]
        assert counts == [2] * methods


def test_a_second_method_starts_where_dpo_stopped(family):
    starts = [row["lost"] for row in family["later"] if row["step"] == 0]
    assert len(starts) == 3 and starts[0] == starts[1] == starts[2]


def test_a_recipe_that_cannot_be_run_is_refused():
    with pytest.raises(ValueError, match=r"whole multiples of prompts x samples = 8, got \(20,\)"):
        replace(RUNS, draws=(20,))
    with pytest.raises(ValueError, match=r"same number of trials, at least 1, got \[1, 2\]"):
        replace(FAMILY, taus=(0.1,))
    with pytest.raises(ValueError, match="no derived point of a method named 'GRPO'"):
        toy_runs.derived_points(toy.draw([0], **asdict(SIZE)), KNOBS, only="GRPO")
