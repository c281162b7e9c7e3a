"""Recipes of the methods on rollouts with a reward from a notebook. Plain values, no torch.

`reward` keeps the name of a judge's objective, as the recipe has it, and is not asked: `own_reward` counts.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.rollouts import OnlineDPORecipe, PolicyGradientRecipe, PPORecipe, Rollouts


@dataclass(frozen=True, kw_only=True)
class OwnRewardPolicyGradient(PolicyGradientRecipe):
    """RLOO or GRPO on `own_reward`, the text that `engine.own_code` made of a function."""

    own_reward: str


@dataclass(frozen=True, kw_only=True)
class OwnRewardPPO(PPORecipe):
    """PPO on `own_reward`, as `OwnRewardPolicyGradient`."""

    own_reward: str


@dataclass(frozen=True, kw_only=True)
class OwnRewardOnlineDPO(OnlineDPORecipe):
    """Online DPO whose pairs are labelled by `own_reward`, as `OwnRewardPolicyGradient`."""

    own_reward: str


OWN_REWARD: dict[type[Rollouts], type[Rollouts]] = {
    PolicyGradientRecipe: OwnRewardPolicyGradient,
    PPORecipe: OwnRewardPPO,
    OnlineDPORecipe: OwnRewardOnlineDPO,
}
