"""What adapting costs: time to equal tau by hand, speed-ups as ratios of rates."""

import pandas as pd
import pytest

from zephyr_lab.lab.eda.draft_costs import Progress, Speed, crossing, time_to_equal


def progress(values, seconds):
    return Progress([0.0, 12.0, 24.0], ["start", "half", "end"], values, seconds)


def test_time_to_equal_tau_by_hand():
    # Retraining ends at 3.0 after 10 s. The other passes 3.0 after nine tenths of its first 12 of 24 steps, in 5 s.
    ours, theirs = progress([[1.2, 3.2, 3.8]] * 2, [5.0, 5.0]), progress([[1.2, 2.0, 3.0]] * 2, [10.0, 10.0])
    assert time_to_equal(ours, theirs) == pytest.approx([0.9 * 0.5 * 5 / 10 - 1] * 2)
    # Where the other ends lower, its own end is what both reach: retraining is at 2.0 after half its time.
    slow = progress([[1.2, 1.5, 2.0]], [5.0])
    assert time_to_equal(slow, progress([[1.2, 2.0, 3.0]], [10.0])) == pytest.approx([5 / 5 - 1])


def test_a_level_is_crossed_where_the_broken_line_passes_it():
    assert crossing([0.0, 10.0, 20.0], [1.0, 2.0, 4.0], 3.0) == 15.0
    assert crossing([0.0, 10.0], [1.0, 2.0], 0.5) == 0.0
    with pytest.raises(ValueError, match="never reaches 3"):
        crossing([0.0, 10.0], [1.0, 2.0], 3.0)


def test_seconds_of_steps_are_shares_of_the_mean():
    assert progress([], [4.0, 6.0]).over_seconds() == {0.0: "start", 2.5: "half", 5.0: "end"}


def test_a_speed_up_is_a_ratio_of_tokens_a_second():
    timings = pd.DataFrame(
        {"seed": seed, "model": "a", "rule": rule, "method": "chain", "arm": arm, "order": order, "tokens": 100,
         "seconds": 9.0, "cpu_seconds": 1.0 if arm == "plain" else 0.4 + seed / 10}
        for seed in range(2) for rule in ("greedy", "drawn") for arm in ("plain", "drafted")
        for order in ("forwards", "backwards")
    )  # fmt: skip
    costs = pd.DataFrame(
        {"seed": seed, "model": "a", "method": "chain", "target_pass": 0.02, "draft_step": 0.001 * (1 + seed),
         "extra_layers": 29}
        for seed in range(2)
    )  # fmt: skip
    speed = Speed(timings, costs, "cpu_seconds")
    (line,) = speed.speed_ups("speed", 0).to_dict("records")
    assert line["value"] == pytest.approx((1 / 0.4 + 1 / 0.5) / 2) and line["n"] == 2
    paid = speed.step_costs().set_index("metric")["value"]
    assert paid["target pass, ms"] == pytest.approx(20.0) and paid["draft steps a pass"] == pytest.approx((20 + 10) / 2)
