"""PPO, RLOO, GRPO, online DPO and the family: broken off and resumed they end in the same bytes, and halt at a NaN."""

from dataclasses import asdict, replace

import pytest
import torch

import rlhf_runs
from rlhf_runs import BrokenOff, Run
from zephyr_lab.core.files import read_json
from zephyr_lab.engine.own_code import captured
from zephyr_lab.losses import policy_gradient as pure
from zephyr_lab.losses.ppo import whitened
from zephyr_lab.methods import online_dpo, policy_gradient, ppo, rollouts
from zephyr_lab.methods.recipes.rollouts import OWN_REWARD
from zephyr_lab.methods.rollouts import Questions, Reward
from zephyr_lab.methods.stages.world_questions import JudgeReward, WorldQuestions
from zephyr_lab.models import saved

METHODS = {
    "rollouts:build_ppo": (rlhf_runs.PPO, 6),
    "rollouts:build_online_dpo": (rlhf_runs.ONLINE, 3),
    "preference": (rlhf_runs.FAMILY, 3),
    "rollouts:build_policy_gradient": (rlhf_runs.RLOO, 3),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return rlhf_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize("build", METHODS)
def test_broken_off_and_resumed_it_ends_in_the_same_bytes(build, inputs, tmp_path):
    recipe, step = METHODS[build]
    whole, broken = Run(tmp_path / "whole", build, inputs), Run(tmp_path / "broken", build, inputs)
    whole.build(recipe)
    with pytest.raises(BrokenOff):
        broken.build(recipe, until=step)
    broken.build(recipe)
    assert broken.contents() == whole.contents()
    if build != "preference":
        assert (whole.out / "steps" / "2" / "model.safetensors").is_file()
        assert [row["step"] for row in read_json(whole.out / "log.json")] == [0, 1, 2, 3]


@pytest.mark.parametrize("build", ["rollouts:build_ppo", "rollouts:build_online_dpo", "rollouts:build_policy_gradient"])
def test_a_reward_that_is_no_number_halts_it(build, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(
        JudgeReward, "__call__", lambda self, answered: [float("nan")] * len(answered)
    )  # fmt: skip
    with pytest.raises(ValueError, match="reward is nan at step 0: training halted"):
        Run(tmp_path, build, inputs).build(METHODS[build][0])


@pytest.mark.parametrize("build", ["rollouts:build_ppo", "rollouts:build_policy_gradient"])
def test_it_climbs_a_reward_for_short_answers(build, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(
        JudgeReward,
        "__call__",
        lambda self, answered: [-float(sum(id_ % 2 for id_ in ids)) for ids in answered.answers],
    )
    recipe = replace(METHODS[build][0], steps=16, batch=16, learning_rate=2e-2, beta=0.0, keep=(), checkpoint_every=16)
    run = Run(tmp_path, build, inputs)
    run.build(recipe)
    rewards = [row["reward"] for row in read_json(run.out / "log.json")]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.5  # even ids are learned


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_trls_advantages_are_ours(algorithm, inputs, tmp_path):
    recipe = replace(rlhf_runs.RLOO, algorithm=algorithm, steps=1, warmup=0, keep=(), samples=3)
    policy, tokenizer = saved.load_model(inputs["policy"]), saved.load_tokenizer(inputs["policy"])
    rows = WorldQuestions.of_pairs(tokenizer, world="tiny", prompts=recipe.prompts, seed=0).rows
    form = {"rloo": policy_gradient.RLOO, "grpo": policy_gradient.GRPO}[algorithm]
    trainer = policy_gradient.make_trainer(
        recipe, policy, tokenizer, form, reference=rollouts.frozen_copy(policy), prompts=recipe.prompts, seed=0,
        folder=tmp_path / "trainer",
    )  # fmt: skip
    rng = torch.Generator().manual_seed(0)

    def rewards(answered):
        return torch.randn(len(answered), generator=rng).tolist()

    trainer.begin(
        rollouts.Rollouts(
            recipe, 0, Questions.of(rows, policy, tokenizer, recipe), Reward(rewards), rollouts.PolicyLog(tmp_path)
        )
    )
    context = type("Context", (), {"checkpoints": tmp_path, "progress": staticmethod(lambda *a, **k: None)})()
    policy_gradient.trl_adapters.run(trainer, context)
    given = torch.tensor(list(trainer._logs["rewards"]["rewards"])).view(-1, 3)
    theirs = torch.tensor(list(trainer._logs["advantages"])).view(-1, 3)
    # the policy is still the reference, so that no KL enters
    ours = pure.rloo_advantages(given) if algorithm == "rloo" else pure.grpo_advantages(given)
    assert torch.allclose(theirs, ours, atol=1e-5)


def test_ppos_first_step_is_the_policy_gradient(inputs):
    recipe = replace(rlhf_runs.PPO, value_weight=0.0)
    actor = ppo.ActorCritic(saved.load_model(inputs["policy"]))
    tokenizer = saved.load_tokenizer(inputs["policy"])
    questions = WorldQuestions.of_pairs(tokenizer, world="tiny", prompts=8, seed=0)
    answered = rollouts.answer(actor.policy, questions.ids, [0, 1, 2, 3], max_new_tokens=6, seed=0)
    reference = rollouts.scored(actor.policy, answered)
    rewards = torch.tensor([1.0, -2.0, 0.5, 3.0])
    rollout = ppo.make_rollout(actor, answered, reference, rewards, recipe)
    ppo.minibatch_loss(actor, rollout, recipe).backward()
    clipped = actor.policy.get_input_embeddings().weight.grad.clone()
    actor.zero_grad()
    log_probs, _, mask = actor(answered)
    # no KL yet, no values yet: the advantage of a token is the centred reward, decayed by lambda from the last token on
    lengths = mask.sum(dim=1, keepdim=True)
    places = torch.arange(mask.shape[1])[None]
    centred = (rewards - rewards.mean())[:, None] * 0.95 ** (lengths - 1 - places).clamp(min=0)
    advantages = whitened(torch.where(mask, centred, 0.0), mask)
    assert torch.allclose(rollout.advantages, advantages, atol=1e-5)
    (-(advantages * log_probs).sum() / mask.sum()).backward()
    assert torch.allclose(clipped, actor.policy.get_input_embeddings().weight.grad, atol=1e-6)


def test_a_checkpoint_amid_a_rollout_is_refused():
    with pytest.raises(RuntimeError, match="resumed amid the updates of a rollout"):
        ppo.require_drawn(None)


def test_of_each_question_the_best_and_the_worst_answer_make_the_pair():
    chosen, rejected = online_dpo.best_and_worst([1.0, 3.0, 2.0, 5.0, 5.0, 4.0], samples=3)
    assert (chosen, rejected) == ([1, 3], [0, 5])


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
