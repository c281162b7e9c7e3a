"""Policies between reward and KL, on made-up points: support, areas, claims' effects, best-of-n; no training."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab.teaching.policies import KL, QUALITY, WINS, Points, Pool, steps_taken
from zephyr_lab.lab.teaching.rlhf_stages import FINAL
from zephyr_lab.reporting.claims import Part
from zephyr_lab.teaching import pictures

SEEDS, START = 3, "start"
REACH = {"steep": (2.0, 1.0), "far": (1.0, 2.0), "plain": (1.0, 1.0)}  # points a nat, and up to which KL


def points() -> Points:
    """Straight lines from 5; a seed adds a tenth."""
    rows = []
    for seed in range(SEEDS):
        rest = {"learned": 0.0, "brief": 0.0, "words": 9.0, "tokens": 12.0, "finished": 1.0}
        level = 5.0 + 0.1 * seed
        row = {"seed": seed, "model": START, "point": FINAL, "step": 0, "kl": 0.0, "quality": level}
        rows.append({**row, **rest, "win": 50.0})
        for arm, (slope, reach) in REACH.items():
            for step, (share, point) in enumerate(((0.25, "steps/1"), (0.5, "steps/2"), (1.0, FINAL)), start=1):
                kl = share * reach
                row = {
                    "seed": seed,
                    "model": arm,
                    "point": point,
                    "step": step,
                    "kl": kl,
                    "quality": level + slope * kl,
                }
                rows.append({**row, **rest, "win": 60.0})
    answers = pd.DataFrame([
        {"seed": 0, "model": arm, "point": FINAL, "question": question, "text": f"{arm} {question}", "quality": 5.0,
         "learned": np.nan}
        for arm in (START, *REACH) for question in range(9)
    ])  # fmt: skip
    return Points(pd.DataFrame(rows), answers, START, 16, 1000.0)


def test_curves_are_compared_where_both_have_been():
    reached = points()
    assert reached.support("far", "steep") == 1.0
    # areas up to 1 nat: 5 + 1/2 against 5 + 1
    assert reached.at_equal_kl("far", "steep") == pytest.approx([-0.5] * SEEDS)
    assert reached.at_equal_kl("steep", "far") == pytest.approx([0.5] * SEEDS)
    table = reached.equal_kl(against="steep")
    assert list(dict.fromkeys(table["row"])) == ["far", "plain"]
    far = table[table["row"] == "far"].set_index("metric")["value"]
    assert far["mean over KL, points"] == pytest.approx(-0.5)
    assert far["at the end, points"] == pytest.approx(-1.0)  # 6 against 7; that it reaches 7 at 2 nats does not count
    assert far["up to KL, nats"] == 1.0
    back = reached.differences_at_equal_kl({"back": ("steep", "far")}).set_index("metric")["value"]
    assert back["mean over KL, points"] == pytest.approx(0.5) and back["up to KL, nats"] == 1.0


def test_means_and_differences_are_of_final_policies_paired_by_seed():
    reached = points()
    means = reached.means(QUALITY, KL, WINS, arms=["far"]).set_index("metric")["value"]
    assert means[QUALITY.metric] == pytest.approx(7.1) and means[KL.metric] == 2.0 and means[WINS.metric] == 60.0
    gain = reached.differences({"gain": ("steep", START)})
    assert gain["value"].item() == pytest.approx(2.0) and gain["n"].item() == 16
    assert reached.values("far", KL, point="steps/1").tolist() == [0.5] * SEEDS
    part = Part("gain", "greater", 0.0, "none", arms=("steep", START, "plain", START), measure="true reward")
    assert reached.effect("X", part)["value"] == pytest.approx(1.0)


def test_curves_over_kl_and_over_steps_begin_at_the_start():
    reached = points()
    lines = reached.over_kl()
    assert list(dict.fromkeys(lines["series"])) == list(REACH)
    assert lines.groupby("series")["x"].first().tolist() == [0, 0, 0]
    assert lines.groupby("series")["y"].first().tolist() == pytest.approx([5.1] * 3)
    steps = reached.over_steps(QUALITY, ["far"])
    assert steps["x"].tolist() == [0, 1, 2, 3] and steps["y"].tolist() == pytest.approx([5.1, 5.6, 6.1, 7.1])


def test_arms_under_other_names_and_unknown_ones_refused():
    reached = points()
    other = reached.named({"ours": "far"})
    assert other.arms == [START, "ours"]
    assert other.values("ours").equals(reached.values("far"))
    with pytest.raises(ValueError, match="no arm named 'near'; there are start, steep, far, plain"):
        reached.values("near")
    with pytest.raises(ValueError, match=r"'far' left no policy 'epochs/1'; it left steps/1, steps/2, final"):
        reached.values("far", point="epochs/1")
    with pytest.raises(ValueError, match="no arm named 'near'"):
        reached.named({"ours": "near"})


def test_samples_are_the_same_questions_of_every_arm():
    shown = points().samples(["far", START], shown=3)
    assert shown["question"].tolist() == [0, 0, 4, 4, 8, 8]
    assert shown["answer"].tolist()[:2] == ["far 0", "start 0"] and "learned reward" not in shown


def test_best_of_n_is_the_pools_order_statistics():
    pool = Pool([{name: [[1.0, 2.0, 3.0, 4.0]] for name in ("quality", "learned", "words")}] * SEEDS)
    found = pool.points("best-of-n")
    assert list(dict.fromkeys(found["point"])) == ["n = 2", "n = 4"]  # 8 and 16 exceed the pool
    assert found.groupby("point")["quality"].mean().tolist() == pytest.approx([(2 + 3 * 2 + 4 * 3) / 6, 4.0])
    assert pool.best(1) == pytest.approx(pool.mean())  # best-of-one is the mean of its pool
    reached = points() | found
    assert reached.arms[-1] == "best-of-n" and reached.support("best-of-n", "steep") < 1
    with pytest.raises(ValueError, match="there is an arm named 'best-of-n' already"):
        reached | found


def test_steps_are_those_of_the_policy_or_of_the_whole_training():
    @dataclasses.dataclass(frozen=True)
    class Recipe:
        steps: int = 12

    stage = Stage("training", "some.module:build", Recipe())
    assert (
        steps_taken(stage, "steps/4") == 4 and steps_taken(stage, "epochs/2") == 2 and steps_taken(stage, FINAL) == 12
    )


def test_figures_draw_every_arm():
    reached = points()
    drawn = pictures.reward_over_kl(reached.over_kl(), dotted=["far"])
    gains = {arm: list(reached.difference(arm, START)) for arm in REACH}
    costs = pictures.gain_by_cost(gains, {arm: [1.0, 2.0, 3.0] for arm in REACH}, names=list(REACH))
    for figure in (drawn, costs):
        assert {text.get_text() for text in figure.legends[0].get_texts()} == set(REACH)
        assert figure.encode("png")
