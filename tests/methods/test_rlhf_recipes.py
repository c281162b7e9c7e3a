"""Recipes of RLHF refuse what cannot be, and tell what somebody must set."""

from dataclasses import replace

import pytest

import rlhf_runs
import zephyr_runs
from zephyr_lab.methods.recipes.training import knobs


@pytest.mark.parametrize(
    ("recipe", "changes", "problem"),
    [
        (rlhf_runs.RLOO, {"samples": 1}, "samples must be at least 2"),
        (rlhf_runs.RLOO, {"algorithm": "sac"}, "algorithm must be one of rloo, grpo"),
        (rlhf_runs.RLOO, {"reward": "kind"}, "reward must be one of learned, quality, brief"),
        (rlhf_runs.RLOO, {"beta": -0.1}, "beta must not be negative"),
        (rlhf_runs.RLOO, {"keep": (4,)}, "keep must rise from 1 to steps - 1 = 3"),
        (rlhf_runs.RLOO, {"batch": 41}, "batch must be at most prompts = 40"),
        (rlhf_runs.RLOO, {"warmup": 4}, "warmup must be from 0 to steps - 1"),
        (rlhf_runs.PPO, {"minibatches": 3}, "minibatches must divide the 8 answers"),
        (rlhf_runs.PPO, {"discount": 1.5}, "discount must be a share from 0 to 1, got 1.5"),
        (rlhf_runs.ONLINE, {"reward": "learned"}, "online DPO asks a judge"),
        (rlhf_runs.ONLINE, {"beta": 0.0}, "beta must be positive"),
        (rlhf_runs.REWARD, {"centring": -1.0}, "centring must not be negative"),
        (rlhf_runs.REWARD, {"pairs": -1}, "pairs must not be negative"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(recipe, changes, problem):
    with pytest.raises(ValueError, match=problem):
        replace(recipe, **changes)


def test_knobs_are_what_shapes_learning():
    assert {"beta", "learning_rate", "clip_ratio", "trace_decay"} <= set(knobs(rlhf_runs.PPO))
    assert not {"device", "start", "world", "checkpoint_every", "keep"} & set(knobs(rlhf_runs.PPO))
    assert "log_every" not in knobs(zephyr_runs.DDPO)


def test_ppo_has_more_knobs_than_dpo():
    # counted by hand: beyond what all methods on rollouts share, PPO has seven and RLOO none
    assert len(knobs(rlhf_runs.PPO)) - len(knobs(rlhf_runs.RLOO)) == 7
