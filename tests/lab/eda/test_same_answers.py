"""Answers with a draft and without: shares with exact intervals, and verdicts that follow the data."""

import pandas as pd
import pytest

from zephyr_lab.lab.eda import same_answers
from zephyr_lab.lab.eda.same_answers import SameAnswers
from zephyr_lab.reporting import claims as registry
from zephyr_lab.reporting import tables


def compared(*, differing=0.0, variation=0.05, seeds=3):
    """Two targets, 1000 greedy answers of each under each seed; two runs without a draft vary by 0.05."""
    counts = pd.DataFrame(
        {"seed": seed, "model": name, "prompts": 1000.0, "differing": differing}
        for name in ("a", "b") for seed in range(seeds)
    )  # fmt: skip
    sampled = pd.DataFrame(
        {"seed": seed, "model": name, "variation": variation + seed / 10_000, "variation_plain": 0.05, "p": p}
        for name in ("a", "b") for seed in range(seeds) for p in (0.5, 0.01)
    )  # fmt: skip
    return SameAnswers(counts, sampled)


def verdict(same):
    effects = same.effects("E9")
    (claim,) = (one for one in registry.load("eda") if one.id == "E9")
    assert list(effects["metric"]) == [part.metric for part in claim.parts]
    return registry.judge(claim, [tables.estimate(one) for one in effects.to_dict("records")])[0]


def test_the_table_counts_answers_and_tests():
    table = compared(differing=3.0).table().set_index(["row", "metric"])
    assert table.loc[("a", "greedy answers that differ, %"), "value"] == pytest.approx(0.3)
    assert table.loc[("b", "total variation, without, twice"), "value"] == pytest.approx(0.05)
    assert table.loc[("b", "share of chi-square tests below 0.05"), "value"] == 0.5
    assert compared(differing=3.0).differing() == 18


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [({}, "reproduced"), ({"differing": 30.0}, "contradicted"), ({"variation": 0.2}, "contradicted")],
)
def test_the_verdict_follows_the_answers(changes, wanted):
    assert verdict(compared(**changes)) == wanted


def test_sampled_answers_vary_by_the_mean_over_targets_of_each_seed():
    effects = compared(variation=0.06).effects("E9").set_index("metric")
    assert effects.loc[same_answers.SAMPLED_MORE, "value"] == pytest.approx(0.01 + 0.0001)
    assert pd.isna(compared(seeds=1).effects("E9").set_index("metric").loc[same_answers.SAMPLED_MORE, "low"])
