"""Training on rollouts with a reward from a notebook: it is what is climbed, and what is no number is refused."""

from dataclasses import asdict, replace

import pytest

import rlhf_runs
from zephyr_lab.core.files import read_json
from zephyr_lab.engine.own_code import captured
from zephyr_lab.methods.recipes.rollouts import OWN_REWARD


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return rlhf_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


def length(prompt, answer):
    return -float(len(answer)) if prompt[-1]["role"] == "user" else 1000.0


def nothing(prompt, answer):
    return float("nan")


def words(prompt, answer):
    return "3"


def run_with(function, recipe, inputs, folder):
    """Train in this process; the log."""
    own = OWN_REWARD[type(recipe)](**asdict(recipe), own_reward=captured(function))
    build = {"PPORecipe": "build_ppo", "OnlineDPORecipe": "build_online_dpo"}.get(
        type(recipe).__name__, "build_policy_gradient"
    )
    run = rlhf_runs.Run(folder, f"rollouts:{build}", inputs)
    run.build(own)
    return read_json(run.out / "log.json")


@pytest.mark.parametrize("recipe", [rlhf_runs.RLOO, rlhf_runs.PPO, rlhf_runs.ONLINE])
def test_what_is_logged_is_the_reward_of_the_function(recipe, inputs, tmp_path):
    log = run_with(length, replace(recipe, steps=1, warmup=0, keep=()), inputs, tmp_path)
    assert -200 < log[0]["reward"] < 0  # characters of eight tokens at most; the judge's points begin at 1


@pytest.mark.parametrize("function, message", [
    (nothing, "reward is nan at step 0: training halted; it must give a finite number an answer"),
    (words, "words gave the text '3': a reward is one number an answer"),
])  # fmt: skip
def test_what_is_no_number_is_refused(function, message, inputs, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_with(function, replace(rlhf_runs.PPO, steps=1, warmup=0, keep=()), inputs, tmp_path)
