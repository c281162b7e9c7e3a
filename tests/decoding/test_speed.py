"""Speed is measured alike in both arms, and a slow target shows it."""

import pytest

from tiny_drafts import little_target
from zephyr_lab.decoding.drafting import Chain
from zephyr_lab.decoding.speed import compare, step_costs
from zephyr_lab.models.enlarge import enlarge


@pytest.fixture(scope="module")
def target():
    return little_target(seed=4)


def speed_up(timings):
    """Tokens a second of CPU time with the draft over tokens a second without."""
    rates = []
    for arm in ("drafted", "plain"):
        own = [timing for timing in timings if timing.arm == arm]
        rates.append(sum(timing.tokens for timing in own) / sum(timing.cpu_seconds for timing in own))
    return rates[0] / rates[1]


def test_both_arms_answer_the_same_prompts_in_both_orders(target):
    timings = compare(
        target, target, Chain(3), [[3, 4], [5, 3, 4]], max_new_tokens=10, verify="greedy", temperature=0.0, seed=0
    )
    assert [(timing.order, timing.arm) for timing in timings] == [
        ("forwards", "plain"), ("forwards", "drafted"), ("backwards", "drafted"), ("backwards", "plain"),
    ]  # fmt: skip
    assert len({timing.tokens for timing in timings}) == 1  # greedy answers are the same in both
    assert all(timing.seconds > 0 for timing in timings)


def test_a_good_draft_speeds_a_slow_target_up(target):
    slow = enlarge(target, layers=64)  # far slower than its draft, whatever else the machine does
    prompts = [[3, 4, 5]]
    timings = compare(slow, target, Chain(4), prompts, max_new_tokens=16, verify="greedy", temperature=0.0, seed=0)
    assert speed_up(timings) > 1.2
    costs = step_costs(slow, target, nodes=4, context=6, repeats=5)
    assert costs.target_pass > 3 * costs.draft_step


def test_sampled_answers_are_timed_too(target):
    timings = compare(
        target, target, Chain(3, drawn=True), [[3, 4]], max_new_tokens=8, verify="sampling", temperature=1.0, seed=3
    )
    assert speed_up(timings) > 0


def test_steps_beyond_the_context_are_refused(target):
    with pytest.raises(ValueError, match="exceed the target's 40 positions"):
        step_costs(target, target, nodes=4, context=36)
