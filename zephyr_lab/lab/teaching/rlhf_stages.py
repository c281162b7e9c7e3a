"""RLHF on the world as stages of a profile: pairs, reward model, PPO, RLOO, GRPO, online DPO, and what measures them.

Settings are in papers/teaching. Pairs and judge are the world's in every profile: only there is the true reward known.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zephyr_lab.core import settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import zephyr_stages
from zephyr_lab.lab.zephyr_stages import HUB_PROFILES, Model, changed
from zephyr_lab.methods.recipes.data import JudgedPairs, WorldPairs
from zephyr_lab.methods.recipes.evaluate import BestOfN, Frontier
from zephyr_lab.methods.recipes.pairs import RewardRecipe
from zephyr_lab.methods.recipes.rollouts import (
    LEARNED,
    OWN_REWARD,
    OnlineDPORecipe,
    PolicyGradientRecipe,
    PPORecipe,
    Rollouts,
)

PAPER = "teaching"
FINAL = "final"  # the policy at the end of a training, beside those it kept on the way
BUILDS = {
    PolicyGradientRecipe: "zephyr_lab.methods.stages.rollouts:build_policy_gradient",
    PPORecipe: "zephyr_lab.methods.stages.rollouts:build_ppo",
    OnlineDPORecipe: "zephyr_lab.methods.stages.rollouts:build_online_dpo",
}


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


@dataclass(frozen=True, kw_only=True)
class SFTSettings:
    """SFT at about DPO's compute. chosen_epochs: over the chosen answers; longer_epochs over a `longer_part`-th of the
    dialogues: several shorter passes leave as many policies as the other methods do."""

    chosen_epochs: int
    longer_epochs: int
    longer_part: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a method that samples learns from. begun: the policy at its start; prompts: pairs of the world whose prompts
    are asked; reward_model: whose reward counts; own_reward: a function of a notebook instead, as
    `engine.own_code.captured` made it. Without either, the judge's objective that the recipe names counts."""

    begun: Model
    prompts: Stage
    reward_model: Stage | None = None
    own_reward: str | None = None


def tuned(profile: str) -> Tuned:
    """Learning rates and betas of the profile."""
    return settings.load(PAPER, profile, "tuned", Tuned)


def start(profile: str, seed: int) -> Model:
    """The policy that every method starts from, and the reference of each: the profile's dSFT."""
    return Model(zephyr_stages.dsft(profile, seed))


def pairs(profile: str, seed: int, *, table: str = "pairs", **changes: Any) -> Stage:
    """The preference pairs; in the world's profiles those of `zephyr_stages`. table: "pairs" or "poor_pairs"; changes:
    fields of the recipe."""
    if table == "pairs" and profile not in HUB_PROFILES:
        return zephyr_stages.pairs(profile, seed, **changes)
    recipe = changed(settings.load(PAPER, profile, table, WorldPairs), changes)
    return Stage("pairs", "zephyr_lab.methods.stages.world_data:build_pairs", recipe, seed=seed)


def judged_pairs(profile: str, seed: int, *, objective: str, data: Stage, **changes: Any) -> Stage:
    """Pairs on the prompts and answers of `data`, labelled by one objective of the judge ("quality" or "brief")."""
    of_data = {field.name: getattr(data.recipe, field.name) for field in dataclasses.fields(WorldPairs)}
    recipe = settings.load(PAPER, profile, "judge", JudgedPairs, **of_data, objective=objective)
    build = "zephyr_lab.methods.stages.world_data:build_judged_pairs"
    return Stage("judged-pairs", build, changed(recipe, changes), seed=seed)


def reward(profile: str, seed: int, *, begun: Model, data: Stage, **changes: Any) -> Stage:
    """The reward model, from `begun`, on the pairs `data`."""
    recipe = changed(settings.load(PAPER, profile, "reward", RewardRecipe, start=begun.folder), changes)
    inputs = {"start": begun.stage, "pairs": data}
    return Stage("reward", "zephyr_lab.methods.stages.reward:build", recipe, seed=seed, inputs=inputs)


def policy_gradient(profile: str, seed: int, scene: Scene, *, algorithm: str = "rloo", **changes: Any) -> Stage:
    """RLOO (or GRPO) in `scene`; on a judge's objective, reward= names it."""
    method = "rloo" if scene.reward_model else "rloo_true"
    recipe = _recipe(profile, PolicyGradientRecipe, method, scene, algorithm=algorithm)
    return _on_rollouts(algorithm, seed, recipe, scene, changes)


def ppo(profile: str, seed: int, scene: Scene, **changes: Any) -> Stage:
    """PPO in `scene`: as many answers a step as RLOO, one a prompt."""
    recipe = _recipe(profile, PPORecipe, "ppo", scene, "ppo")
    return _on_rollouts("ppo", seed, recipe, scene, {**_answers(recipe, 1), **changes})


def online_dpo(profile: str, seed: int, scene: Scene, **changes: Any) -> Stage:
    """Online DPO in `scene`, the judge labelling two answers a prompt: as many answers a step as RLOO."""
    recipe = _recipe(profile, OnlineDPORecipe, "online_dpo", scene, "judge")
    return _on_rollouts("online-dpo", seed, recipe, scene, {**_answers(recipe, 2), **changes})


def dpo(profile: str, seed: int, *, begun: Model, data: Stage, **changes: Any) -> Stage:
    """dDPO at the tuned learning rate and beta, with its cost and the policy of each epoch."""
    rate, beta = tuned(profile).dpo
    changes = {"learning_rate": rate, "beta": beta, "evaluate_every": 0, "keep_epochs": True, **changes}
    stage = zephyr_stages.ddpo(profile, seed, start=begun, data=data, **changes)
    return dataclasses.replace(stage, build="zephyr_lab.methods.stages.metered:build_ddpo")


def part_of_dialogues(profile: str, seed: int) -> Stage:
    """Dialogues like those of dSFT, a `longer_part`-th as many."""
    rows = zephyr_stages.dialogues(profile, seed).recipe.rows // _sft_settings(profile).longer_part
    return zephyr_stages.dialogues(profile, seed, rows=max(rows, 1))


def longer_sft(profile: str, seed: int, *, begun: Model, data: Stage, **changes: Any) -> Stage:
    """dSFT continued on `data` (`part_of_dialogues`), with its cost and the policy of each epoch."""
    own = {"learning_rate": tuned(profile).longer_dsft[0], "epochs": _sft_settings(profile).longer_epochs}
    return _metered_sft(profile, seed, begun, data, {**own, **changes})


def sft_on_chosen(profile: str, seed: int, *, begun: Model, data: Stage, **changes: Any) -> Stage:
    """dSFT continued on the chosen answers of the pairs `data`, with its cost and the policy of each epoch."""
    own = {"learning_rate": tuned(profile).sft_on_chosen[0], "epochs": _sft_settings(profile).chosen_epochs}
    return _metered_sft(profile, seed, begun, data, {**own, **changes})


def frontier(
    profile: str,
    seed: int,
    models: Mapping[str, Model],
    *,
    reference: Model | None = None,
    reward_model: Stage | None = None,
    validation: bool = False,
) -> Stage:
    """True reward, KL to `reference` (the start) and lengths of `models` on held-out questions, or on those of
    validation; the learned reward too where there is a reward model.

    Raises ValueError for a reference that is not the final model of its training.
    """
    reference = reference or start(profile, seed)
    if reference.folder:
        raise ValueError(f"KL is measured to the final model of a training, got the one in {reference.folder!r}")
    recipe = settings.load(
        PAPER, profile, ("measure", "validation" if validation else "frontier"), Frontier,
        benchmark="single_turn" if validation else "mt_bench",
        models=tuple(models), folders=tuple(model.folder for model in models.values()),
    )  # fmt: skip
    inputs = {name: model.stage for name, model in models.items()} | {"reference": reference.stage}
    if reward_model is not None:
        inputs["reward"] = reward_model
    return Stage("frontier", "zephyr_lab.methods.stages.frontier:build", recipe, seed=seed, inputs=inputs)


def best_of_n(profile: str, seed: int, *, begun: Model, reward_model: Stage, **changes: Any) -> Stage:
    """A pool of answers of `begun` to held-out questions, with true and learned rewards."""
    fields = {"start": begun.folder, "benchmark": "mt_bench"}
    recipe = changed(settings.load(PAPER, profile, ("measure", "best_of_n"), BestOfN, **fields), changes)
    inputs = {"policy": begun.stage, "reward": reward_model}
    return Stage("best-of-n", "zephyr_lab.methods.stages.frontier:build_best_of_n", recipe, seed=seed, inputs=inputs)


def kept(model: Model) -> dict[str, Model]:
    """The policies that the training of `model` left, in order: "steps/N" or "epochs/N" on the way, and "final".

    A model from on the way is the only one of its own.
    """
    recipe = model.stage.recipe
    on_the_way: list[str] = []
    if not model.folder and isinstance(recipe, Rollouts):
        on_the_way = [f"steps/{step}" for step in recipe.keep]
    elif not model.folder and getattr(recipe, "keep_epochs", False):
        on_the_way = [f"epochs/{epoch}" for epoch in range(1, recipe.epochs)]
    return {**{folder: Model(model.stage, folder) for folder in on_the_way}, FINAL: model}


def _sft_settings(profile: str) -> SFTSettings:
    return settings.load(PAPER, profile, "sft", SFTSettings)


def _metered_sft(profile: str, seed: int, begun: Model, data: Stage, changes: Mapping[str, Any]) -> Stage:
    stage = zephyr_stages.dsft(profile, seed, start=begun, data=data, **{"keep_epochs": True, **changes})
    return dataclasses.replace(stage, build="zephyr_lab.methods.stages.metered:build_dsft")


def _recipe(profile: str, kind: type[Rollouts], method: str, scene: Scene, *tables: str, **fields: Any) -> Rollouts:
    """A method's recipe by the tables: what all share and `tables`, on the scene's prompts, at the tuned values."""
    rate, beta = getattr(tuned(profile), method)
    return settings.load(
        PAPER, profile, ("rollouts", *tables), kind,
        start=scene.begun.folder, world=scene.prompts.recipe.world, prompts=scene.prompts.recipe.prompts,
        reward=LEARNED if scene.reward_model else "quality", learning_rate=rate, beta=beta, **fields,
    )  # fmt: skip


def _answers(recipe: Rollouts, samples: int) -> dict[str, int]:
    """As many answers a step as `recipe` has, `samples` a prompt."""
    return {"batch": min(recipe.batch * recipe.samples // samples, recipe.prompts), "samples": samples}


def _on_rollouts(name: str, seed: int, recipe: Rollouts, scene: Scene, changes: Mapping[str, Any]) -> Stage:
    build = BUILDS[type(recipe)]
    keep, steps = changes.get("keep", recipe.keep), changes.get("steps", recipe.steps)
    recipe = changed(recipe, {**changes, "keep": tuple(step for step in keep if step < steps)})
    inputs = {"policy": scene.begun.stage} | ({"reward": scene.reward_model} if scene.reward_model else {})
    if scene.own_reward is not None:
        recipe = OWN_REWARD[type(recipe)](**dataclasses.asdict(recipe), own_reward=scene.own_reward)
    return Stage(name, build, recipe, seed, inputs)
