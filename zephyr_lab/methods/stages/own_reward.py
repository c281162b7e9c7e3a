"""RLOO, GRPO, PPO and online DPO as stages on the world, rewarded by a function from a notebook.

The function takes one prompt (its messages) and the text of one answer, and gives one number.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from zephyr_lab.core import files
from zephyr_lab.engine import own_code
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.online_dpo import train_online_dpo
from zephyr_lab.methods.policy_gradient import train_policy_gradient
from zephyr_lab.methods.ppo import train_ppo
from zephyr_lab.methods.recipes.own_reward import OwnRewardOnlineDPO, OwnRewardPolicyGradient, OwnRewardPPO
from zephyr_lab.methods.recipes.rollouts import PPO, OnlineDPO, PolicyGradient
from zephyr_lab.methods.stages.policy_gradient import BY_NAME
from zephyr_lab.methods.stages.world_questions import trained


def build_policy_gradient(
    recipe: OwnRewardPolicyGradient, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """As `stages.policy_gradient.build`, on the recipe's own reward."""
    where: dict[str, Any] = {"seed": seed, "inputs": inputs, "out": out, "context": context}
    train = rewarded_by(recipe.own_reward, train_policy_gradient)
    log, metrics = trained(train, PolicyGradient, recipe, **where, advantages=BY_NAME[recipe.algorithm])
    files.write_json(out / "trl_log.json", log.attrs["trainer"])
    return {"steps": float(len(log)), **metrics}


def build_ppo(
    recipe: OwnRewardPPO, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """As `stages.ppo.build`, on the recipe's own reward."""
    where: dict[str, Any] = {"seed": seed, "inputs": inputs, "out": out, "context": context}
    _, metrics = trained(rewarded_by(recipe.own_reward, train_ppo), PPO, recipe, **where)
    return {"steps": float(recipe.steps), "updates": float(recipe.steps * recipe.updates), **metrics}


def build_online_dpo(
    recipe: OwnRewardOnlineDPO, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """As `stages.online_dpo.build`, the pairs labelled by the recipe's own reward."""
    where: dict[str, Any] = {"seed": seed, "inputs": inputs, "out": out, "context": context}
    _, metrics = trained(rewarded_by(recipe.own_reward, train_online_dpo), OnlineDPO, recipe, **where)
    return {"steps": float(recipe.steps), **metrics}


def rewarded_by(text: str, train: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """`train` with the function that `text` holds in place of the reward that it is handed.

    What the function gives is read by `rollouts.Reward`, which refuses what is no finite number; a text that spells a
    number is refused here. Raises ValueError for it.
    """
    own = own_code.restored(text)

    def reward(prompts: list[list[Mapping[str, str]]], answers: list[str]) -> list[Any]:
        given = [own(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        for value in given:
            if isinstance(value, str):
                raise ValueError(f"{own_code.name_of(text)} gave the text {value!r}: a reward is one number an answer")
        return given

    def rewarded(*arguments: Any, **named: Any) -> pd.DataFrame:
        return train(*arguments, **{**named, "reward": reward})

    return rewarded
