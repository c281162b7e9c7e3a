"""The measure of reward and KL: nothing for the start itself, exact divergences, and the judge's points."""

from dataclasses import replace

import pytest
import torch

import rlhf_runs
from rlhf_runs import Run
from tiny_models import small_model
from zephyr_lab.core.files import read_json
from zephyr_lab.methods.recipes.evaluate import BestOfN, Frontier
from zephyr_lab.methods.rollouts import Answered
from zephyr_lab.methods.stages import frontier
from zephyr_lab.methods.stages.world_questions import held_out_prompts
from zephyr_lab.models import saved

RECIPE = Frontier(
    world="tiny", benchmark="mt_bench", questions=8, max_new_tokens=6, models=("a", "b"), folders=("", ""), device="cpu"
)
POOL = BestOfN(
    start="", world="tiny", benchmark="single_turn", questions=3, samples=4, max_new_tokens=6, device="cpu"
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    made = rlhf_runs.make_inputs(folder)
    reward = Run(folder / "reward", "reward", {"start": made["policy"], "pairs": made["pairs"]})
    reward.build(replace(rlhf_runs.REWARD, epochs=1))
    moved = saved.load_model(made["policy"])
    with torch.no_grad():
        moved.get_input_embeddings().weight.mul_(1.2)
    saved.save(moved, saved.load_tokenizer(made["policy"]), folder / "moved")
    return {"policy": made["policy"], "moved": folder / "moved", "reward": reward.out}


def test_the_start_has_no_kl_to_itself_and_a_moved_policy_has(inputs, tmp_path):
    run = Run(
        tmp_path,
        "frontier",
        {"reference": inputs["policy"], "a": inputs["policy"], "b": inputs["moved"], "reward": inputs["reward"]},
    )
    metrics = run.build(RECIPE)
    start, moved = read_json(run.out / "frontier.json")
    assert start["kl"] == pytest.approx(0.0, abs=1e-6)
    assert moved["kl"] > 0.01
    assert len(start["quality"]) == len(start["learned"]) == 2 * RECIPE.questions
    assert metrics["a"] == pytest.approx(sum(start["quality"]) / len(start["quality"]))
    assert metrics["parameters"] == sum(one.numel() for one in saved.load_model(inputs["policy"]).parameters())


def test_the_kl_of_an_answer_is_the_sum_over_its_tokens():
    policy, reference = small_model(0), small_model(1)
    answered = Answered([0, 1], [[5, 6], [7]], [[8, 9, 10], [11]], [True, True])
    found = frontier.answer_kl(policy, reference, answered)
    for row, (prompt, answer) in enumerate(zip(answered.prompts, answered.answers, strict=True)):
        ids = torch.tensor([prompt + answer])
        p, q = (model(input_ids=ids).logits[0].log_softmax(-1) for model in (policy, reference))
        places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        expected = sum((p[place].exp() * (p[place] - q[place])).sum().item() for place in places)
        assert found[row].item() == pytest.approx(expected, rel=1e-4)


def test_each_turn_is_asked_after_ideal_answers():
    prompts = held_out_prompts(RECIPE)
    assert len(prompts) == 2 * RECIPE.questions
    first, second = prompts[:2]
    assert [message["role"] for message in first.messages] == ["user"]
    assert second.messages[1]["content"] == first.turn.ideal


def test_single_turns_are_asked_once_and_are_other_instances():
    single = held_out_prompts(replace(RECIPE, benchmark="single_turn", questions=24))
    assert len(single) == 24
    assert not {one.task.key for one in single} & {one.task.key for one in held_out_prompts(RECIPE)}


def test_a_pool_holds_every_answer_with_both_rewards(inputs, tmp_path):
    run = Run(tmp_path, "frontier:build_best_of_n", {"policy": inputs["policy"], "reward": inputs["reward"]})
    metrics = run.build(POOL)
    pool = read_json(run.out / "pool.json")
    assert {name: (len(rows), len(rows[0])) for name, rows in pool.items()} == dict.fromkeys(
        ("quality", "learned", "words"), (3, 4)
    )
    assert metrics["answers"] == 12


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"benchmark": "other"}, "benchmark must be"),
        ({"models": ("a", "a")}, "different names"),
        ({"questions": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, problem):
    with pytest.raises(ValueError, match=problem):
        replace(RECIPE, **changes)
