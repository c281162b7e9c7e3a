"""Acceptance lengths as numbers: sums over sums by hand, both definitions, verdicts that follow the data."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from zephyr_lab.lab.eda.acceptance_lengths import (
    AUTHORS_GREEDY,
    GREEDY_TAU,
    MEASURES,
    SAMPLED_TAU,
    AcceptanceLengths,
    Tau,
    by_prompt,
    rate_of,
)
from zephyr_lab.reporting import claims as registry
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.acceptance_length import constant_rate_length
from zephyr_lab.scoring.two_way import two_way_estimate

TOKENS = (4, 6, 10)  # of the answers to three prompts
PARTS = [(claim, part) for claim in registry.load("eda") for part in claim.parts if part.arms]


def asked(levels, *, prompts="math", hot=None, seeds=3):
    """Arms whose tau on six drafted tokens is their level (at temperature 1 `hot`'s), 0.01 apart from seed to seed, and
    four fifths of it on three; of the authors' count 3."""
    rows = [
        {
            "seed": seed, "model": model, "prompts": prompts, "rule": rule, "length": length, "prompt": prompt,
            "tokens": tokens, "passes": tokens / (factor * (level + seed / 100)),
            "authors_sum": 3.0, "authors_kept": 1.0,
        }
        for seed in range(seeds)
        for model in levels
        for rule, level in (("greedy", levels[model]), ("drawn", (hot or levels)[model]))
        for length, factor in ((6, 1.0), (3, 0.8))
        for prompt, tokens in enumerate(TOKENS)
    ]  # fmt: skip
    return AcceptanceLengths(pd.DataFrame(rows))


def test_tau_is_the_ratio_of_sums_of_each_seed():
    answers = asked({"a": 2.0})
    assert list(answers.values("a")["math"]) == pytest.approx([2.0, 2.01, 2.02])
    assert list(answers.values("a", Tau("", 0, length=3))["math"]) == pytest.approx([1.6, 1.608, 1.616])
    with pytest.raises(ValueError, match="no arm named 'x'; there are a"):
        answers.values("x")
    with pytest.raises(ValueError, match="temperature must be 0"):
        Tau("", 2)


def test_the_authors_tau_is_the_mean_over_the_answers_it_keeps():
    frame = asked({"a": 2.0}, seeds=2).frame
    frame["authors_sum"] = frame["prompt"].map({0: 4.0, 1: 0.0, 2: 2.0})
    frame["authors_kept"] = frame["prompt"].map({0: 1.0, 1: 0.0, 2: 1.0})  # an answer of one pass counts nowhere
    assert list(AcceptanceLengths(frame).values("a", AUTHORS_GREEDY)["math"]) == [3.0, 3.0]


def test_one_seed_has_an_interval_over_prompts_and_no_bare_number():
    answers = asked({"a": 2.0}, seeds=1)
    line = answers.number("a", row="row", metric="tau")
    assert (
        line["interval"] == "1 seed: 3 prompts, all equal, no interval" and line["low"] == line["value"] == line["high"]
    )
    answers.frame.loc[answers.frame["prompt"] == 0, "passes"] *= 2
    line = answers.number("a", row="row", metric="tau")
    assert line["interval"] == "1 seed: 3 prompts, bootstrap 95 %" and line["low"] < line["value"] < line["high"]
    assert list(answers.means(GREEDY_TAU, AUTHORS_GREEDY)["metric"]) == ["tau, T = 0"]
    with pytest.raises(ValueError, match='one seed gives "tau, authors\' script, T = 0" no interval'):
        answers.number("a", row="row", metric="", measure=AUTHORS_GREEDY)
    assert answers.differences({"a - a": ("a", "a")}).empty


def test_differences_are_paired_by_seed_and_taken_on_shared_prompts_alone():
    answers = (
        asked({"a": 2.0, "b": 1.5}) | asked({"a": 3.0, "b": 2.0}, prompts="code") | asked({"a": 9.0}, prompts="own")
    )
    table = answers.differences({"a - b": ("a", "b")})
    assert list(table["metric"]) == ["math", "code"] and list(table["value"]) == pytest.approx([0.5, 1.0])
    assert (table["high"] - table["low"]).max() < 1e-9  # seeds move both alike
    (mean,) = answers.mean_differences({"a - b": ("a", "b")}).to_dict("records")
    assert mean["value"] == pytest.approx(0.75) and mean["n"] == 6
    two = answers.differences({"a - b": ("a", "b")}, GREEDY_TAU, SAMPLED_TAU)
    assert list(two["metric"]) == ["tau, T = 0, math", "tau, T = 0, code", "tau, T = 1, math", "tau, T = 1, code"]
    with pytest.raises(ValueError, match="'a' and 'b' have no prompts and seed in common"):
        (asked({"a": 1.0}) | asked({"b": 1.0}, prompts="code")).difference("a", "b")
    with pytest.raises(ValueError, match="'a' was asked on the prompts of math, code, own; choose one"):
        answers.number("a", row="", metric="")


def test_askings_join_narrow_and_take_other_names():
    answers = asked({"a": 2.0, "b": 1.5}) | asked({"a": 3.0}, prompts="code")
    assert (answers.arms, answers.prompts, answers.on("code").arms) == (["a", "b"], ["math", "code"], ["a"])
    together = (answers.on("math") | asked({"c": 4.0}, prompts="code")).named({"x": ["c", "b"]})
    assert together.values("x").iloc[0].to_dict() == pytest.approx({"math": 1.5, "code": 4.0})
    with pytest.raises(ValueError, match="both have 'a' on the prompts of math"):
        answers | asked({"a": 1.0})
    with pytest.raises(ValueError, match="'x' would be two arms on the prompts of math"):
        answers.named({"x": ["a", "b"]})
    with pytest.raises(ValueError, match="nothing was asked on prompts of 'clinic'; there are math, code"):
        answers.on("clinic")


def test_one_rate_gives_back_the_length_it_was_read_from():
    for rate in (0.0, 0.3, 0.9):
        assert rate_of(constant_rate_length(rate, length=6), length=6) == pytest.approx(rate, abs=1e-9)
    curves = asked({"a": 2.0}).by_length("a", GREEDY_TAU)
    exact, steady = (part for _, part in curves.groupby("series", sort=False))
    assert list(exact["x"]) == list(steady["x"]) == [3, 6]
    assert list(exact["y"]) == pytest.approx([1.608, 2.01])
    assert steady["y"].iloc[0] == pytest.approx(exact["y"].iloc[0])  # the rate is read off the shortest draft


def test_a_curve_has_a_point_for_each_arm():
    curve = asked({"a": 2.0, "b": 3.0}).curve("line", {10.0: "b", 20.0: "a"})
    assert list(curve["x"]) == [10, 20] and list(curve["y"]) == pytest.approx([3.01, 2.01])


def test_a_loop_that_counts_other_passes_is_seen():
    answers = asked({"a": 2.0})
    runs = [("greedy", "chain"), ("drawn", "chain"), ("greedy", "tree"), ("candidates", "tree")]
    own = [answers.rows("a").assign(rule=rule, method=method).query("prompt < 2") for rule, method in runs]
    looped = dataclasses.replace(answers, loop=pd.concat(own, ignore_index=True))
    assert looped.loop_differences() == 0
    table = looped.exact_and_counted()
    assert list(table["metric"]) == [f"{way}, T = {at}" for at in (0, 1) for way in ("exact", "chain", "tree")]
    assert set(table["n"]) == {2} and list(table["value"]) == pytest.approx([2.01] * 6)
    looped.loop["passes"] = 1.0
    assert looped.loop_differences() == 3 * 2


def test_claims_of_acceptance_name_its_measures():
    assert len(PARTS) == 10 and all(part.measure in MEASURES for _, part in PARTS)


@pytest.mark.parametrize(("claim", "part"), PARTS, ids=[f"{claim.id} {part.arms[1]}" for claim, part in PARTS])
def test_flipping_the_data_flips_the_verdict(claim, part):
    """Three specialists with the claim's two arms, the first far ahead or behind; at the other temperature equal."""
    ours, theirs = part.arms
    for lead, verdict in ((1.0, registry.REPRODUCED), (-1.0, registry.CONTRADICTED)):
        lead = -lead if part.direction == "lower" else lead
        levels, equal = {ours: 3.0 + lead, theirs: 3.0}, dict.fromkeys(part.arms, 3.0)
        cold, hot = (equal, levels) if part.measure.endswith("T = 1") else (levels, equal)
        one, two, three = (asked(cold, hot=hot, prompts=name) for name in ("math", "code", "clinic"))
        effect = (one | two | three).effect(claim.id, part)
        assert effect["value"] == pytest.approx(lead) and effect["n"] == 9
        alone = dataclasses.replace(
            claim, also=(), **{name: getattr(part, name) for name in ("metric", "direction", "margin")}
        )
        assert registry.judge(alone, [tables.estimate(effect)])[0] == verdict
    assert asked(levels, seeds=1).effect(claim.id, part)["low"] is None  # one seed leaves it open


def test_an_effect_of_four_arms_is_refused():
    part = registry.Part("m", "higher", 0.1, "", arms=("a", "b", "c", "d"), measure="acceptance length, greedy")
    with pytest.raises(ValueError, match=r"compare two arms, claims\.toml names 4"):
        asked({"a": 1.0}).effect("X", part)


def test_tables_of_nothing_say_so():
    assert "no values" in tables.show(asked({"a": 2.0}, seeds=1).differences({"x": ("a", "a")})).text


@pytest.mark.slow
def test_acceptance_lengths_are_covered_though_they_are_ratios_of_sums():
    """Long answers take more passes and are accepted better, so tau is no mean over prompts."""
    draw, covered, times, prompts = np.random.default_rng(3), 0, 600, 50
    many = ratios(draw, seeds=1, prompts=400_000)
    true = many["tokens"].sum() / many["passes"].sum()
    for _ in range(times):
        low, high = two_way_estimate(by_prompt(ratios(draw, seeds=5, prompts=prompts), "tokens", "passes")).interval
        covered += low <= true <= high
    assert 0.92 < covered / times < 0.98


def ratios(draw, *, seeds, prompts):
    """Tokens and passes of the answers to the same prompts under some seeds."""
    length = np.repeat(draw.uniform(10, 40, (1, prompts)), seeds, axis=0)
    rate = 2 + length / 40 + draw.normal(0, 0.05, (seeds, 1)) + draw.normal(0, 0.3, (1, prompts))
    passes = length / np.maximum(1, rate + draw.normal(0, 0.2, (seeds, prompts)))
    places = np.indices((seeds, prompts))
    columns = {"seed": places[0], "prompt": places[1], "tokens": length, "passes": passes}
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()}).assign(prompts="math")
