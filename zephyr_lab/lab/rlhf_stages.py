"""RLHF on the world as stages of a profile: pairs, reward model, PPO, RLOO, GRPO, online DPO, and what measures them.

Left to themselves all start from the dSFT of `zephyr_stages` and learn from the same prompts; settings stand in
papers/teaching. Pairs and judge are the world's in every profile: only there is the true reward known.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from zephyr_lab.core import settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import zephyr_stages
from zephyr_lab.lab.zephyr_stages import HUB_PROFILES, Model, changed
from zephyr_lab.methods.recipes.own_reward import OWN_REWARD
from zephyr_lab.methods.recipes.reward import RewardRecipe
from zephyr_lab.methods.recipes.rlhf import BestOfN, Frontier, JudgedPairs
from zephyr_lab.methods.recipes.rollouts import (
    LEARNED,
    OnlineDPORecipe,
    PolicyGradientRecipe,
    PPORecipe,
    Rollouts,
)
from zephyr_lab.methods.recipes.world_data import WorldPairs

PAPER = "teaching"
FINAL = "final"  # the policy at the end of a training, beside those it kept on the way
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


def pairs(profile: str, seed: int, *, table: str = "pairs", **changes: Any) -> Stage:
    """The preference pairs; in the world's profiles those of `zephyr_stages`. table: "pairs" or "poor_pairs"; changes:
    fields of the recipe."""
    if table == "pairs" and profile not in HUB_PROFILES:
        return zephyr_stages.pairs(profile, seed, **changes)
    recipe = changed(settings.load(PAPER, profile, table, WorldPairs), changes)
    return Stage("pairs", "zephyr_lab.methods.stages.world_data:build_pairs", recipe, seed=seed)


def judged_pairs(profile: str, seed: int, *, objective: str, data: Stage | None = None, **changes: Any) -> Stage:
    """Pairs on the prompts and answers of `data` (the pairs), labelled by one objective of the judge ("quality" or
    "brief")."""
    asked = (data or pairs(profile, seed)).recipe
    given = {field.name: getattr(asked, field.name) for field in dataclasses.fields(WorldPairs)}
    recipe = settings.load(PAPER, profile, "judge", JudgedPairs, **given, objective=objective)
    build = "zephyr_lab.methods.stages.judged_pairs:build"
    return Stage("judged-pairs", build, changed(recipe, changes), seed=seed)


def reward(profile: str, seed: int, *, begun: Model | None = None, data: Stage | None = None, **changes: Any) -> Stage:
    """The reward model, from `begun` (the dSFT model), on `data` (the pairs)."""
    begun = begun or start(profile, seed)
    recipe = settings.load(PAPER, profile, "reward", RewardRecipe, start=begun.folder)
    return Stage(
        "reward",
        "zephyr_lab.methods.stages.reward:build",
        changed(recipe, changes),
        seed=seed,
        inputs={"start": begun.stage, "pairs": data or pairs(profile, seed)},
    )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a method that samples learns from: policy, prompts, and what an answer is worth.

    begun: the policy at its start, by default the dSFT model; prompts: pairs of the world whose prompts are asked, by
    default the profile's; reward_model: whose reward counts; own_reward: a function of a notebook instead, as
    `engine.own_code.captured` made it. Without either the judge's objective counts that the recipe names.
    """

    begun: Model | None = None
    prompts: Stage | None = None
    reward_model: Stage | None = None
    own_reward: str | None = None


def policy_gradient(
    profile: str, seed: int, scene: Scene = Scene(), *, algorithm: str = "rloo", **changes: Any
) -> Stage:
    """RLOO (or GRPO) in `scene`; on a judge's objective, reward= names it."""
    name = "rloo" if scene.reward_model else "rloo_true"
    recipe = _recipe(profile, seed, PolicyGradientRecipe, name, scene, algorithm=algorithm)
    return _on_rollouts(profile, seed, "policy_gradient", recipe, scene, changes, name=algorithm)


def ppo(profile: str, seed: int, scene: Scene = Scene(), **changes: Any) -> Stage:
    """PPO in `scene`: as many answers a step as RLOO, one a prompt."""
    recipe = _recipe(profile, seed, PPORecipe, "ppo", scene, tables=("ppo",))
    answers = {"batch": min(recipe.batch * recipe.samples, recipe.prompts), "samples": 1}
    return _on_rollouts(profile, seed, "ppo", recipe, scene, {**answers, **changes})


def online_dpo(profile: str, seed: int, scene: Scene = Scene(), **changes: Any) -> Stage:
    """Online DPO in `scene`, the judge labelling two answers a prompt: as many answers a step as RLOO."""
    recipe = _recipe(profile, seed, OnlineDPORecipe, "online_dpo", scene, tables=("judge",))
    answers = {"batch": min(recipe.batch * recipe.samples // 2, recipe.prompts), "samples": 2}
    return _on_rollouts(profile, seed, "online_dpo", recipe, scene, {**answers, **changes})


def dpo(profile: str, seed: int, *, begun: Model | None = None, data: Stage | None = None, **changes: Any) -> Stage:
    """dDPO at the tuned learning rate and beta, with its cost and the policy of each epoch."""
    rate, beta = tuned(profile).dpo
    own = {"learning_rate": rate, "beta": beta, "evaluate_every": 0, "keep_epochs": True}
    begun, data = begun or start(profile, seed), data or pairs(profile, seed)
    made = zephyr_stages.ddpo(profile, seed, start=begun, data=data, **{**own, **changes})
    return dataclasses.replace(made, build="zephyr_lab.methods.stages.metered:build_ddpo")


@dataclass(frozen=True, kw_only=True)
class SFTSettings:
    """SFT at about DPO's compute. chosen_epochs: over the chosen answers; longer_epochs over a `longer_part`-th of the
    dialogues: several shorter passes leave as many policies as the other methods do."""

    chosen_epochs: int
    longer_epochs: int
    longer_part: int


def part_of_dialogues(profile: str, seed: int) -> Stage:
    """Dialogues like those of dSFT, a `longer_part`-th as many."""
    part = settings.load(PAPER, profile, "sft", SFTSettings).longer_part
    rows = max(zephyr_stages.dialogues(profile, seed).recipe.rows // part, 1)
    return zephyr_stages.dialogues(profile, seed, rows=rows)


def longer_sft(
    profile: str, seed: int, *, begun: Model | None = None, data: Stage | None = None, **changes: Any
) -> Stage:
    """dSFT continued on `data` (`part_of_dialogues`), with its cost and the policy of each epoch."""
    own = {
        "learning_rate": tuned(profile).longer_dsft[0],
        "epochs": settings.load(PAPER, profile, "sft", SFTSettings).longer_epochs,
    }
    return _sft(profile, seed, begun, data or part_of_dialogues(profile, seed), {**own, **changes})


def sft_on_chosen(
    profile: str, seed: int, *, begun: Model | None = None, data: Stage | None = None, **changes: Any
) -> Stage:
    """dSFT continued on the chosen answers of `data` (the pairs), with its cost and the policy of each epoch."""
    own = {
        "learning_rate": tuned(profile).sft_on_chosen[0],
        "epochs": settings.load(PAPER, profile, "sft", SFTSettings).chosen_epochs,
    }
    return _sft(profile, seed, begun, data or pairs(profile, seed), {**own, **changes})


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
        PAPER,
        profile,
        ("measure", "validation" if validation else "frontier"),
        Frontier,
        benchmark="single_turn" if validation else "mt_bench",
        models=tuple(models),
        folders=tuple(model.folder for model in models.values()),
    )
    inputs = {name: model.stage for name, model in models.items()} | {"reference": reference.stage}
    if reward_model is not None:
        inputs["reward"] = reward_model
    return Stage("frontier", "zephyr_lab.methods.stages.frontier:build", recipe, seed=seed, inputs=inputs)


def best_of_n(profile: str, seed: int, *, reward_model: Stage, begun: Model | None = None, **changes: Any) -> Stage:
    """A pool of answers of `begun` (the start) to held-out questions, with true and learned rewards."""
    begun = begun or start(profile, seed)
    fields = {"start": begun.folder, "benchmark": "mt_bench"}
    recipe = changed(settings.load(PAPER, profile, ("measure", "best_of_n"), BestOfN, **fields), changes)
    inputs = {"policy": begun.stage, "reward": reward_model}
    return Stage("best-of-n", "zephyr_lab.methods.stages.best_of_n:build", recipe, seed=seed, inputs=inputs)


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


def _sft(profile: str, seed: int, begun: Model | None, data: Stage, changes: Mapping[str, Any]) -> Stage:
    own = {"keep_epochs": True, **changes}
    made = zephyr_stages.dsft(profile, seed, start=begun or start(profile, seed), data=data, **own)
    return dataclasses.replace(made, build="zephyr_lab.methods.stages.metered:build_dsft")


def _recipe(
    profile: str,
    seed: int,
    kind: type[Recipe],
    method: str,
    scene: Scene,
    *,
    tables: tuple[str, ...] = (),
    **fields: Any,
) -> Recipe:
    """A method's recipe by the tables: what all share and `tables`, on the scene's prompts, at the tuned values."""
    asked = (scene.prompts or pairs(profile, seed)).recipe
    rate, beta = getattr(tuned(profile), method)
    fields |= {
        "start": (scene.begun or start(profile, seed)).folder,
        "world": asked.world,
        "prompts": asked.prompts,
        "reward": LEARNED if scene.reward_model else "quality",
        "learning_rate": rate,
        "beta": beta,
    }
    return settings.load(PAPER, profile, ("rollouts", *tables), kind, **fields)


def _on_rollouts(
    profile: str,
    seed: int,
    module: str,
    recipe: Rollouts,
    scene: Scene,
    changes: Mapping[str, Any],
    *,
    name: str | None = None,
) -> Stage:
    keep = changes.get("keep", recipe.keep)
    steps = changes.get("steps", recipe.steps)
    recipe = changed(recipe, {**changes, "keep": tuple(step for step in keep if step < steps)})
    inputs = {"policy": (scene.begun or start(profile, seed)).stage}
    if scene.reward_model:
        inputs["reward"] = scene.reward_model
    build = f"zephyr_lab.methods.stages.{module}:build"
    if scene.own_reward is not None:
        recipe = OWN_REWARD[type(recipe)](**dataclasses.asdict(recipe), own_reward=scene.own_reward)
        build = f"zephyr_lab.methods.stages.own_reward:build_{module}"
    return Stage(name or module.replace("_", "-"), build, recipe, seed, inputs)
