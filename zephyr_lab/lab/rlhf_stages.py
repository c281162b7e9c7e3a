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
from zephyr_lab.lab.zephyr_stages import Model
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
class RolloutSettings:
    """Fields of `Rollouts` that all methods share in a profile; see there."""

    world: str
    prompts: int
    steps: int
    batch: int
    samples: int
    max_new_tokens: int
    warmup: int
    final_share: float
    clip: float
    keep: tuple[int, ...]
    checkpoint_every: int
    device: str


@dataclass(frozen=True, kw_only=True)
class PPOSettings:
    """Fields of `PPORecipe` beside those of `Rollouts`; see there."""

    passes: int
    minibatches: int
    clip_ratio: float
    value_clip: float
    value_weight: float
    discount: float
    trace_decay: float


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
class MeasureSettings:
    """Held-out questions: of the frontier (`Frontier`), of the sweep's validation, and of best-of-n's pool."""

    world: str
    questions: int
    validation: int
    pool: int
    samples: int
    max_new_tokens: int
    device: str


def tuned(profile: str) -> Tuned:
    """Learning rates and betas of the profile."""
    return settings.load(PAPER, profile, "tuned", Tuned)


def start(profile: str, seed: int) -> Model:
    """The policy that every method starts from, and the reference of each: the profile's dSFT."""
    return Model(zephyr_stages.dsft(profile, seed))


def pairs(profile: str, seed: int, *, table: str = "pairs") -> Stage:
    """The preference pairs; in the world's profiles those of `zephyr_stages`. table: "pairs" or "poor_pairs"."""
    recipe = settings.load(PAPER, profile, table, WorldPairs)
    return Stage("pairs", "zephyr_lab.methods.stages.world_data:build_pairs", recipe, seed=seed)


def judged_pairs(profile: str, seed: int, *, objective: str) -> Stage:
    """Pairs on the same prompts and answers, labelled by one objective of the judge ("quality" or "brief")."""
    given = settings.load(PAPER, profile, "pairs", WorldPairs)
    judge = settings.load(PAPER, profile, "judge", JudgeSettings)
    recipe = JudgedPairs(**dataclasses.asdict(given), objective=objective, judge_sd=judge.sd)
    return Stage("judged-pairs", "zephyr_lab.methods.stages.judged_pairs:build", recipe, seed=seed)


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """sd: noise of the judge's score of an answer, in points, wherever a judge labels pairs."""

    sd: float


def reward(profile: str, seed: int, *, data: Stage | None = None, **changes: Any) -> Stage:
    """The reward model, started from the dSFT model, on `data` (the pairs)."""
    recipe = settings.load(PAPER, profile, "reward", RewardRecipe)
    begun = start(profile, seed)
    return Stage(
        "reward",
        "zephyr_lab.methods.stages.reward:build",
        dataclasses.replace(recipe, start=begun.folder, **changes),
        seed=seed,
        inputs={"start": begun.stage, "pairs": data or pairs(profile, seed)},
    )


def policy_gradient(
    profile: str, seed: int, *, reward_model: Stage | None = None, algorithm: str = "rloo", **changes: Any
) -> Stage:
    """RLOO (or GRPO) on a reward model, or on the judge's objective `reward`="quality" or "brief" without one."""
    name = "rloo" if reward_model else "rloo_true"
    recipe = _recipe(profile, PolicyGradientRecipe, name, reward_model, {"algorithm": algorithm, **changes})
    return _on_rollouts(profile, seed, "policy_gradient", recipe, reward_model, name=algorithm)


def ppo(profile: str, seed: int, *, reward_model: Stage | None = None, **changes: Any) -> Stage:
    """PPO on a reward model, or on the judge's objective without one: as many answers a step as RLOO, one a prompt."""
    shared = settings.load(PAPER, profile, "rollouts", RolloutSettings)
    own = dataclasses.asdict(settings.load(PAPER, profile, "ppo", PPOSettings))
    answers = {"batch": min(shared.batch * shared.samples, shared.prompts), "samples": 1}
    recipe = _recipe(profile, PPORecipe, "ppo", reward_model, {**own, **answers, **changes})
    return _on_rollouts(profile, seed, "ppo", recipe, reward_model)


def online_dpo(profile: str, seed: int, **changes: Any) -> Stage:
    """Online DPO, the judge labelling two answers a prompt: as many answers a step as RLOO."""
    shared = settings.load(PAPER, profile, "rollouts", RolloutSettings)
    judge = settings.load(PAPER, profile, "judge", JudgeSettings)
    answers = {"batch": min(shared.batch * shared.samples // 2, shared.prompts), "samples": 2, "judge_sd": judge.sd}
    recipe = _recipe(profile, OnlineDPORecipe, "online_dpo", None, {**answers, **changes})
    return _on_rollouts(profile, seed, "online_dpo", recipe, None)


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
    table = settings.load(PAPER, profile, "measure", MeasureSettings)
    recipe = Frontier(
        world=table.world,
        benchmark="single_turn" if validation else "mt_bench",
        questions=table.validation if validation else table.questions,
        max_new_tokens=table.max_new_tokens,
        models=tuple(models),
        folders=tuple(model.folder for model in models.values()),
        device=table.device,
    )
    inputs = {name: model.stage for name, model in models.items()} | {"reference": start(profile, seed).stage}
    if reward_model is not None:
        inputs["reward"] = reward_model
    return Stage("frontier", "zephyr_lab.methods.stages.frontier:build", recipe, seed=seed, inputs=inputs)


def best_of_n(profile: str, seed: int, *, reward_model: Stage) -> Stage:
    """A pool of answers of the start to held-out questions, with true and learned rewards."""
    table = settings.load(PAPER, profile, "measure", MeasureSettings)
    recipe = BestOfN(
        start=start(profile, seed).folder,
        world=table.world,
        benchmark="mt_bench",
        questions=table.pool,
        samples=table.samples,
        max_new_tokens=table.max_new_tokens,
        device=table.device,
    )
    inputs = {"policy": start(profile, seed).stage, "reward": reward_model}
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
    profile: str, kind: type[Recipe], method: str, reward_model: Stage | None, changes: Mapping[str, Any]
) -> Recipe:
    shared = dataclasses.asdict(settings.load(PAPER, profile, "rollouts", RolloutSettings))
    rate, beta = getattr(tuned(profile), method)
    given = {
        "start": "",
        "reward": LEARNED if reward_model else "quality",
        "learning_rate": rate,
        "beta": beta,
        **shared,
        **changes,
    }
    given["keep"] = tuple(step for step in given["keep"] if step < given["steps"])
    return kind(**given)


def _on_rollouts(
    profile: str, seed: int, module: str, recipe: Rollouts, reward_model: Stage | None, *, name: str | None = None
) -> Stage:
    begun = start(profile, seed)
    inputs = {"policy": begun.stage} | ({"reward": reward_model} if reward_model else {})
    build = f"zephyr_lab.methods.stages.{module}:build"
    return Stage(name or module.replace("_", "-"), build, dataclasses.replace(recipe, start=begun.folder), seed, inputs)
