"""RLHF on the world as stages of a profile: pairs, reward model, PPO, RLOO, GRPO, online DPO, and what measures them.

All start from the dSFT of `zephyr_stages` and learn from the same prompts; settings stand in papers/teaching.
Pairs and judge are the world's in every profile: only there is the true reward known.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from zephyr_lab.core import settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import zephyr_stages
from zephyr_lab.lab.base import HUB_PROFILES
from zephyr_lab.lab.zephyr_stages import Model, changed
from zephyr_lab.methods.recipes.dpo import DDPORecipe
from zephyr_lab.methods.recipes.reward import RewardRecipe
from zephyr_lab.methods.recipes.rlhf import BestOfN, Frontier, JudgedPairs
from zephyr_lab.methods.recipes.rollouts import (
    LEARNED,
    OnlineDPORecipe,
    PolicyGradientRecipe,
    PPORecipe,
    Rollouts,
)
from zephyr_lab.methods.recipes.sft import DSFTRecipe
from zephyr_lab.methods.recipes.world_data import WorldPairs

PAPER = "teaching"
Recipe = TypeVar("Recipe", bound=Rollouts)


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Learning rate and beta of each method, as the sweep found them (papers/teaching/sweep.json); SFT has no beta."""

    dpo: tuple[float, float]
    online_dpo: tuple[float, float]
    ppo: tuple[float, float]
    rloo: tuple[float, float]
    rloo_true: tuple[float, float]
    longer_dsft: tuple[float, ...]
    sft_on_chosen: tuple[float, ...]


def tuned(profile: str) -> Tuned:
    """Learning rates and betas of the profile."""
    return settings.load(PAPER, profile, "tuned", Tuned)


def start(profile: str, seed: int) -> Model:
    """The policy that every method starts from, and the reference of each: the profile's dSFT."""
    return Model(zephyr_stages.dsft(profile, seed))


def pairs(profile: str, seed: int, *, table: str = "pairs") -> Stage:
    """The preference pairs; in the world's profiles those of `zephyr_stages`. table: "pairs" or "poor_pairs"."""
    if table == "pairs" and profile not in HUB_PROFILES:
        return zephyr_stages.pairs(profile, seed)
    recipe = settings.load(PAPER, profile, table, WorldPairs)
    return Stage("pairs", "zephyr_lab.methods.stages.world_data:build_pairs", recipe, seed=seed)


def judged_pairs(profile: str, seed: int, *, objective: str) -> Stage:
    """Pairs on the same prompts and answers, labelled by one objective of the judge ("quality" or "brief")."""
    given = dataclasses.asdict(pairs(profile, seed).recipe)
    recipe = settings.load(PAPER, profile, "judge", JudgedPairs, **given, objective=objective)
    return Stage("judged-pairs", "zephyr_lab.methods.stages.judged_pairs:build", recipe, seed=seed)


def reward(profile: str, seed: int, *, data: Stage | None = None, **changes: Any) -> Stage:
    """The reward model, started from the dSFT model, on `data` (the pairs)."""
    begun = start(profile, seed)
    recipe = settings.load(PAPER, profile, "reward", RewardRecipe, start=begun.folder)
    return Stage(
        "reward",
        "zephyr_lab.methods.stages.reward:build",
        changed(recipe, changes),
        seed=seed,
        inputs={"start": begun.stage, "pairs": data or pairs(profile, seed)},
    )


def policy_gradient(
    profile: str, seed: int, *, reward_model: Stage | None = None, algorithm: str = "rloo", **changes: Any
) -> Stage:
    """RLOO (or GRPO) on a reward model, or on the judge's objective `reward`="quality" or "brief" without one."""
    name = "rloo" if reward_model else "rloo_true"
    recipe = _recipe(profile, seed, PolicyGradientRecipe, name, reward_model, algorithm=algorithm)
    return _on_rollouts(profile, seed, "policy_gradient", recipe, reward_model, changes, name=algorithm)


def ppo(profile: str, seed: int, *, reward_model: Stage | None = None, **changes: Any) -> Stage:
    """PPO on a reward model, or on the judge's objective without one: as many answers a step as RLOO, one a prompt."""
    recipe = _recipe(profile, seed, PPORecipe, "ppo", reward_model, tables=("ppo",))
    answers = {"batch": min(recipe.batch * recipe.samples, recipe.prompts), "samples": 1}
    return _on_rollouts(profile, seed, "ppo", recipe, reward_model, {**answers, **changes})


def online_dpo(profile: str, seed: int, **changes: Any) -> Stage:
    """Online DPO, the judge labelling two answers a prompt: as many answers a step as RLOO."""
    recipe = _recipe(profile, seed, OnlineDPORecipe, "online_dpo", None, tables=("judge",))
    answers = {"batch": min(recipe.batch * recipe.samples // 2, recipe.prompts), "samples": 2}
    return _on_rollouts(profile, seed, "online_dpo", recipe, None, {**answers, **changes})


def dpo(profile: str, seed: int, *, data: Stage | None = None, **changes: Any) -> Stage:
    """dDPO at the tuned learning rate and beta, with its cost and the policy of each epoch."""
    rate, beta = tuned(profile).dpo
    own = {"learning_rate": rate, "beta": beta, "evaluate_every": 0, "keep_epochs": True}
    made = zephyr_stages.ddpo(
        profile, seed, start=start(profile, seed), data=data or pairs(profile, seed), **{**own, **changes}
    )
    return dataclasses.replace(made, build="zephyr_lab.methods.stages.metered:build_ddpo")


@dataclass(frozen=True, kw_only=True)
class SFTSettings:
    """SFT at about DPO's compute. chosen_epochs: over the chosen answers; longer_epochs over a `longer_part`-th of the
    dialogues: several shorter passes leave as many policies as the other methods do."""

    chosen_epochs: int
    longer_epochs: int
    longer_part: int


def sft(profile: str, seed: int, *, on_chosen: bool, **changes: Any) -> Stage:
    """dSFT continued: on the chosen answers of the pairs, or on dialogues like those it has seen; with its cost."""
    table, rates = settings.load(PAPER, profile, "sft", SFTSettings), tuned(profile)
    if on_chosen:
        data, epochs, rate = pairs(profile, seed), table.chosen_epochs, rates.sft_on_chosen[0]
    else:
        whole = zephyr_stages.dialogues(profile, seed)
        rows = max(whole.recipe.rows // table.longer_part, 1)
        data, epochs = zephyr_stages.dialogues(profile, seed, rows=rows), table.longer_epochs
        rate = rates.longer_dsft[0]
    own = {"learning_rate": rate, "epochs": epochs, "keep_epochs": True}
    made = zephyr_stages.dsft(profile, seed, start=start(profile, seed), data=data, **{**own, **changes})
    return dataclasses.replace(made, build="zephyr_lab.methods.stages.metered:build_dsft")


def frontier(
    profile: str,
    seed: int,
    models: Mapping[str, Model],
    *,
    reward_model: Stage | None = None,
    validation: bool = False,
) -> Stage:
    """True reward, KL to the start and lengths of `models` on held-out questions, or on those of validation."""
    recipe = settings.load(
        PAPER,
        profile,
        ("measure", "validation" if validation else "frontier"),
        Frontier,
        benchmark="single_turn" if validation else "mt_bench",
        models=tuple(models),
        folders=tuple(model.folder for model in models.values()),
    )
    inputs = {name: model.stage for name, model in models.items()} | {"reference": start(profile, seed).stage}
    if reward_model is not None:
        inputs["reward"] = reward_model
    return Stage("frontier", "zephyr_lab.methods.stages.frontier:build", recipe, seed=seed, inputs=inputs)


def best_of_n(profile: str, seed: int, *, reward_model: Stage) -> Stage:
    """A pool of answers of the start to held-out questions, with true and learned rewards."""
    begun = start(profile, seed)
    fields = {"start": begun.folder, "benchmark": "mt_bench"}
    recipe = settings.load(PAPER, profile, ("measure", "best_of_n"), BestOfN, **fields)
    inputs = {"policy": begun.stage, "reward": reward_model}
    return Stage("best-of-n", "zephyr_lab.methods.stages.best_of_n:build", recipe, seed=seed, inputs=inputs)


def rollout_recipe(stage: Stage) -> Rollouts | DDPORecipe | DSFTRecipe:
    """The recipe of a method's stage. Raises TypeError for a stage that trains no policy."""
    if not isinstance(stage.recipe, Rollouts | DDPORecipe | DSFTRecipe):
        raise TypeError(f"stage {stage.name} trains no policy (its recipe is {type(stage.recipe).__name__})")
    return stage.recipe


def kept(stage: Stage) -> list[Model]:
    """The policies that a training leaves, in order: on the way, and the final one."""
    recipe = rollout_recipe(stage)
    if isinstance(recipe, Rollouts):
        return [*(Model(stage, f"steps/{step}") for step in recipe.keep), Model(stage)]
    return [*(Model(stage, f"epochs/{epoch}") for epoch in range(1, recipe.epochs)), Model(stage)]


def _recipe(
    profile: str,
    seed: int,
    kind: type[Recipe],
    method: str,
    reward_model: Stage | None,
    *,
    tables: tuple[str, ...] = (),
    **fields: Any,
) -> Recipe:
    """A method's recipe by the tables: what all share and `tables`, on the pairs' prompts, at the tuned values."""
    asked = pairs(profile, seed).recipe
    rate, beta = getattr(tuned(profile), method)
    fields |= {
        "start": start(profile, seed).folder,
        "world": asked.world,
        "prompts": asked.prompts,
        "reward": LEARNED if reward_model else "quality",
        "learning_rate": rate,
        "beta": beta,
    }
    return settings.load(PAPER, profile, ("rollouts", *tables), kind, **fields)


def _on_rollouts(
    profile: str,
    seed: int,
    module: str,
    recipe: Rollouts,
    reward_model: Stage | None,
    changes: Mapping[str, Any],
    *,
    name: str | None = None,
) -> Stage:
    keep = changes.get("keep", recipe.keep)
    steps = changes.get("steps", recipe.steps)
    recipe = changed(recipe, {**changes, "keep": tuple(step for step in keep if step < steps)})
    inputs = {"policy": start(profile, seed).stage} | ({"reward": reward_model} if reward_model else {})
    return Stage(name or module.replace("_", "-"), f"zephyr_lab.methods.stages.{module}:build", recipe, seed, inputs)
