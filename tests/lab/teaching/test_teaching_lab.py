"""The words for RLHF: whose reward, whose prompts, which policies a training leaves, what is refused; no training."""

import re
from functools import partial

import pandas as pd
import pytest
import torch

from zephyr_lab.core import paths, session
from zephyr_lab.engine.stages import key
from zephyr_lab.lab import Lab, zephyr_stages
from zephyr_lab.lab.teaching import rlhf_stages, sweeps
from zephyr_lab.lab.teaching.policies import Points, Pool
from zephyr_lab.lab.teaching.teaching_lab import TeachingLab
from zephyr_lab.lab.teaching.training_costs import Costs
from zephyr_lab.methods.recipes.rollouts import OwnRewardPolicyGradient, OwnRewardPPO


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 3, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    return Lab("teaching", "smoke", 2)


@pytest.fixture
def start(lab):
    return lab.sft(lab.base(), lab.dialogues())


def keys(arm):
    return [key(arm.stage(seed)) for seed in range(2)]


@pytest.mark.parametrize("profile", ["smoke", "tiny", "world-gpu"])
def test_pairs_and_start_are_zephyrs(profile, monkeypatch):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 3, "test"))
    lab = Lab("teaching", profile, 1)
    assert key(lab.pairs().stage(0)) == key(zephyr_stages.pairs(profile, 0))
    assert key(lab.sft(lab.base(), lab.dialogues()).stage(0)) == key(rlhf_stages.start(profile, 0).stage)


@pytest.mark.parametrize("profile", ["gpu", "paper"])
def test_pairs_of_a_profile_of_the_hub_are_the_worlds_too(profile, monkeypatch):
    monkeypatch.setattr(session, "_current", session.Session("tiny", 3, "test"))
    lab = Lab("teaching", profile, 1)
    start, pairs = lab.sft(lab.base(), lab.dialogues()), lab.pairs()
    assert lab.rloo(start, pairs, reward="quality").stage(0).recipe.world == pairs.stage(0).recipe.world
    assert len(rlhf_stages.kept(lab.longer_sft(start, lab.part_of_dialogues()).of(0))) >= 3


def test_the_reward_is_a_model_a_judge_or_a_function(lab, start):
    pairs = lab.pairs()
    reward = lab.reward_model(start, pairs)
    learned, judged = lab.rloo(start, pairs, reward=reward), lab.rloo(start, pairs, reward="brief")
    assert learned.stage(1).inputs["reward"] == reward.stage(1) and learned.stage(1).recipe.reward == "learned"
    assert judged.stage(0).recipe.reward == "brief" and "reward" not in judged.stage(0).inputs
    assert learned.stage(0).recipe.beta == lab.tuned["rloo"][1]
    assert judged.stage(0).recipe.beta == lab.tuned["rloo_true"][1]
    assert repr(learned).startswith("RLOO under seeds 0 to 1: on a reward model, ")


def test_a_keyword_wins_over_the_sweep_and_none_is_the_sweeps(lab, start):
    pairs = lab.pairs()
    assert keys(lab.tuned_dpo(start, pairs, beta=None)) == keys(lab.tuned_dpo(start, pairs))
    assert lab.tuned_dpo(start, pairs, beta=0.7).stage(0).recipe.beta == 0.7
    assert lab.ppo(start, pairs, reward="quality", steps=2).stage(0).recipe.keep == ()  # nothing beyond its steps
    assert lab.reward_model(start, pairs, pairs=16).stage(0).recipe.pairs == 16
    with pytest.raises(ValueError, match=r"PPORecipe has no field 'klip'; it has .*clip_ratio"):
        lab.ppo(start, pairs, reward="quality", klip=1)


def test_a_reward_of_one_s_own_is_part_of_the_key_and_of_no_other_s(lab, start):
    pairs = lab.pairs()
    most = 8

    def short(prompt, answer):
        return -float(len(answer.split()) > most)

    arm = lab.rloo(start, pairs, reward=short)
    assert isinstance(arm.stage(0).recipe, OwnRewardPolicyGradient) and "on short" in repr(arm)
    assert isinstance(lab.ppo(start, pairs, reward=short).stage(0).recipe, OwnRewardPPO)
    before = keys(arm)
    most = 9
    assert keys(lab.rloo(start, pairs, reward=short)) != before
    most = 8
    assert keys(lab.rloo(start, pairs, reward=short)) == before


def test_what_is_no_reward_is_refused_when_it_is_named(lab, start):
    pairs, weights = lab.pairs(), torch.ones(3)

    def weighted(prompt, answer):
        return weights.sum().item()

    def of_answers(answers):
        return [0.0 for _ in answers]

    with pytest.raises(ValueError, match="weighted uses 'weights', a Tensor that a worker cannot have"):
        lab.rloo(start, pairs, reward=weighted)
    with pytest.raises(ValueError, match=r"a reward is a function of \(prompt, answer\).* got of_answers\(answers\)"):
        lab.ppo(start, pairs, reward=of_answers)
    with pytest.raises(
        ValueError, match=r"reward must be a reward model, 'quality', 'brief' or a function .* got 'kind'"
    ):
        lab.rloo(start, pairs, reward="kind")
    with pytest.raises(ValueError, match=r"reward must be a reward model \(lab.reward_model\), got dSFT"):
        lab.rloo(start, pairs, reward=start)
    with pytest.raises(ValueError, match="online DPO asks a judge"):
        lab.online_dpo(start, pairs, reward=lab.reward_model(start, pairs))
    with pytest.raises(ValueError, match=r"prompts are those of the world's preference pairs .* got WorldDialogues"):
        lab.rloo(start, lab.dialogues(), reward="quality")


def test_judged_pairs_are_the_same_prompts_labelled_anew(lab):
    pairs = lab.pairs()
    brief = lab.judged_pairs(pairs, "brief")
    assert brief.stage(0).recipe.prompts == pairs.stage(0).recipe.prompts and brief.stage(0).recipe.objective == "brief"
    assert key(lab.judged_pairs(brief, "quality").stage(0)) == key(lab.judged_pairs(pairs, "quality").stage(0))


def test_a_training_leaves_the_policies_that_its_recipe_keeps(lab, start):
    pairs = lab.pairs()
    assert list(rlhf_stages.kept(lab.rloo(start, pairs, reward="quality").of(0))) == ["steps/2", "final"]
    run = lab.tuned_dpo(start, pairs, epochs=3)
    assert list(rlhf_stages.kept(run.of(0))) == ["epochs/1", "epochs/2", "final"]
    assert list(rlhf_stages.kept(lab.tuned_dpo(start, pairs, keep_epochs=False).of(0))) == ["final"]
    assert rlhf_stages.kept(run.after_epoch(1).of(0)) == {"final": run.after_epoch(1).of(0)}


def test_a_frontier_needs_the_start_that_kl_is_measured_to(lab, start):
    run = lab.tuned_dpo(start, lab.pairs(), epochs=3)
    with pytest.raises(ValueError, match="against must be the start's name, one of DPO; got 'dSFT'"):
        lab.frontier({"DPO": run}, against="dSFT")
    with pytest.raises(ValueError, match="KL is measured to the final model of a training, got the one in 'epochs/1'"):
        lab.frontier({"on the way": run.after_epoch(1), "DPO": run}, against="on the way")


def test_a_sweep_tries_the_methods_of_its_grids(lab, start, monkeypatch):
    pairs = lab.pairs()
    with pytest.raises(ValueError, match=r"a sweep tries dpo, online_dpo, .*; got dpo"):
        lab.sweep({"dpo": partial(lab.tuned_dpo, start, pairs)}, again=True)
    methods = dict.fromkeys(lab.tuned, partial(lab.tuned_dpo, start, pairs))
    assert lab.sweep(methods, again=False).empty
    tried: list[sweeps.Trial] = []
    monkeypatch.setattr(sweeps, "run", lambda profile, name, trials: pd.DataFrame(tried.extend(trials)))
    lab.sweep(methods, again=True)
    assert {trial.stage.seed for trial in tried} == {sweeps.SEED} and len(tried) == 2 * len(methods)
    assert [trial.stage.recipe.beta for trial in tried[:2]] == [0.1, 0.3]


def test_the_page_of_words_names_nothing_that_does_not_exist():
    text = (paths.notebooks_dir() / "VOCABULARY.md").read_text(encoding="utf-8")
    kinds = {"teaching": TeachingLab, "reached": Points, "pool": Pool, "costs": Costs}
    used = set(re.findall(rf"(?<![.\w])({'|'.join(kinds)})\.(\w+)", text))
    assert len(used) > 15
    assert [f"{name}.{word}" for name, word in sorted(used) if not hasattr(kinds[name], word)] == ["reached.parameters"]
