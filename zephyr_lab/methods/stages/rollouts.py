"""PPO, RLOO, GRPO and online DPO as stages on the world: prompts of the preference pairs, a reward, kept policies.

A prompt keeps its task, which the judge needs and the policy never sees. The reward is the judge's, a reward model's,
or a function from a notebook that takes one prompt (its messages) and the text of one answer and gives one number.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.engine import own_code
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.online_dpo import train_online_dpo
from zephyr_lab.methods.policy_gradient import GRPO, RLOO, train_policy_gradient
from zephyr_lab.methods.ppo import train_ppo
from zephyr_lab.methods.recipes.rollouts import (
    LEARNED,
    PPO,
    OnlineDPO,
    OnlineDPORecipe,
    PolicyGradient,
    PolicyGradientRecipe,
    PPORecipe,
    Rollouts,
)
from zephyr_lab.methods.recipes.training import settings_of
from zephyr_lab.methods.rollouts import Reward, learned_reward, rollout_rows, tokens_spent
from zephyr_lab.methods.stages.world_questions import JudgeReward, WorldQuestions
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models import saved

KEPT = "steps"
BY_NAME = {"rloo": RLOO, "grpo": GRPO}


def build_ppo(
    recipe: PPORecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Train `inputs["policy"]`, which is also the reference, by PPO on the recipe's reward.

    Writes the policy with its tokenizer to `out`, the policies kept on the way to steps/N, and log.json, a row a
    rollout (see `train_ppo`). Metrics: steps (rollouts), updates, tokens spent, CPU seconds and memory.
    """
    _, metrics = trained(train_ppo, PPO, recipe, seed=seed, inputs=inputs, out=out, context=context)
    return {"steps": float(recipe.steps), "updates": float(recipe.steps * recipe.updates), **metrics}


def build_policy_gradient(
    recipe: PolicyGradientRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """As `build_ppo`, by RLOO or GRPO; trl_log.json has what TRL's trainer logs besides (KL a token, entropy, ...)."""
    log, metrics = trained(
        train_policy_gradient,
        PolicyGradient,
        recipe,
        seed=seed,
        inputs=inputs,
        out=out,
        context=context,
        advantages=BY_NAME[recipe.algorithm],
    )
    files.write_json(out / "trl_log.json", log.attrs["trainer"])
    return {"steps": float(len(log)), **metrics}


def build_online_dpo(
    recipe: OnlineDPORecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """As `build_ppo`, by DPO on pairs of the policy's own answers that the reward labels."""
    _, metrics = trained(train_online_dpo, OnlineDPO, recipe, seed=seed, inputs=inputs, out=out, context=context)
    return {"steps": float(recipe.steps), **metrics}


def trained(
    train: Callable[..., pd.DataFrame],
    kind: type,
    recipe: Rollouts,
    *,
    seed: int,
    inputs: dict[str, Path],
    out: Path,
    context: Context,
    **arguments: Any,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """The log of `train` on the recipe's policy and prompts, written to `out` with the policies, and its metrics.

    kind: the settings that `train` takes; arguments: more of its own. Metrics: tokens spent, CPU seconds and memory,
    from loading the policy to the last step.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    with process.metered() as cost:
        policy = saved.load_model(start).to(device)
        questions = WorldQuestions.of_pairs(tokenizer, world=recipe.world, prompts=recipe.prompts, seed=seed)
        log = train(
            policy,
            tokenizer,
            questions.rows,
            recipe=settings_of(recipe, kind),
            reward=reward_for(recipe, questions, tokenizer, inputs, device),
            seed=seed,
            checkpoints=context.checkpoints,
            progress=context.progress,
            watch=KeptPolicies(recipe.keep, tokenizer, context.checkpoints),
            **arguments,
        )
    saved.save(policy, tokenizer, out)
    files.write_json(out / "log.json", rollout_rows(log))
    if (context.checkpoints / KEPT).is_dir():
        shutil.copytree(context.checkpoints / KEPT, out / KEPT)
    return log, {**tokens_spent(log), **cost.metrics()}


def reward_for(
    recipe: Rollouts,
    questions: WorldQuestions,
    tokenizer: PreTrainedTokenizerBase,
    inputs: dict[str, Path],
    device: torch.device,
) -> Reward | Callable[..., list[Any]]:
    """The reward that `recipe` names or brings along (`own_reward`).

    Raises ValueError where it is a reward model's and there is no input "reward".
    """
    if own := getattr(recipe, "own_reward", None):
        return own_reward(own)
    if recipe.reward != LEARNED:
        return Reward(JudgeReward(questions, tokenizer, recipe.reward))
    if "reward" not in inputs:
        raise ValueError("a learned reward needs an input 'reward'; the judge's objectives need none")
    return learned_reward(reward_models.load(inputs["reward"]).to(device))


def own_reward(text: str) -> Callable[..., list[Any]]:
    """The reward of the function that `engine.own_code.captured` wrote as `text`, called answer by answer.

    `rollouts.Reward` refuses what is not a finite number; a text that spells one is refused here, by ValueError.
    """
    own = own_code.restored(text)

    def reward(prompts: list[list[Mapping[str, str]]], answers: list[str]) -> list[Any]:
        rewards = [own(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        for one in rewards:
            if isinstance(one, str):
                raise ValueError(f"{own_code.name_of(text)} gave the text {one!r}: a reward is one number an answer")
        return rewards

    return reward


@dataclass(frozen=True)
class KeptPolicies:
    """Keeps the policy after the recipe's steps in `folder`, which survives a kill; a `rollouts.Watch`."""

    steps: Sequence[int]
    tokenizer: PreTrainedTokenizerBase
    folder: Path

    def __call__(self, step: int, policy: PreTrainedModel) -> None:
        if step in self.steps:
            saved.save(policy, self.tokenizer, self.folder / KEPT / str(step))
