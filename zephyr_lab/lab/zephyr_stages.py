"""Zephyr's steps as stages of a profile: data, dSFT, dDPO, evaluation, each the paper's recipe with named changes.

Recipes come from papers/zephyr/settings.toml. Notebooks that ask for equal recipes share the stages.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from zephyr_lab.core import settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.methods.recipes.dpo import DDPORecipe, OwnLossDPO
from zephyr_lab.methods.recipes.evaluate import PAIRS, Evaluation
from zephyr_lab.methods.recipes.hub_data import HubDialogues, HubPairs
from zephyr_lab.methods.recipes.hub_model import HubModel
from zephyr_lab.methods.recipes.multiple_choice import MultipleChoice
from zephyr_lab.methods.recipes.own_functions import OwnFilter, OwnRubric, OwnWorldPairs
from zephyr_lab.methods.recipes.pair_accuracy import PairAccuracy
from zephyr_lab.methods.recipes.pretrain import Pretrain
from zephyr_lab.methods.recipes.sft import DSFTRecipe
from zephyr_lab.methods.recipes.training import Training
from zephyr_lab.methods.recipes.world_data import WorldDialogues, WorldPairs
from zephyr_lab.methods.recipes.zephyr_settings import PAPER, in_setting

Recipe = TypeVar("Recipe")


@dataclass(frozen=True)
class Model:
    """A trained model: its stage, and the folder inside it: "" the final model, "epochs/1" that after one epoch."""

    stage: Stage
    folder: str = ""

    @property
    def system_turn(self) -> bool:
        """Whether it was trained with an empty system turn first, and is to be asked so."""
        return isinstance(self.stage.recipe, Training) and self.stage.recipe.system_turn


def base(profile: str, number: int = 0) -> Model:
    """The base model `number` of the profile; all seeds of an experiment start from number 0 unless said."""
    return Model(base_stage(profile, number))


def dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """The dialogues of dSFT; `changes`: fields of the recipe (`WorldDialogues`, `HubDialogues`), e.g. filters=()."""
    module, kind = _data(profile, WorldDialogues, HubDialogues)
    recipe = changed(settings.load("zephyr", profile, "dialogues", kind), changes)
    return Stage("dialogues", f"{module}:build_dialogues", recipe, seed=seed)


def pairs(profile: str, seed: int, *, setting: str = PAPER, table: str = "pairs", **changes: Any) -> Stage:
    """The preference pairs of dDPO. `setting`: whose binarisation (`zephyr_settings.SETTINGS`).

    `table`: of settings.toml, "pairs" or "close_pairs", whose chosen answers are less far above the dSFT data.
    `changes`: fields of the recipe (`WorldPairs`, `HubPairs`), e.g. rejected="worst".
    """
    module, kind = _data(profile, WorldPairs, HubPairs)
    recipe = in_setting(setting, "pairs", settings.load("zephyr", profile, table, kind))
    return Stage("pairs", f"{module}:build_pairs", changed(recipe, changes), seed=seed)


def own_filter(dialogues: Stage, own: str) -> Stage:
    """What a filter from a notebook (`engine.own_code.captured`) leaves of the dialogues of a stage."""
    build = "zephyr_lab.methods.stages.own_filter:build"
    return Stage("own_filter", build, OwnFilter(own_filter=own), seed=dialogues.seed, inputs={"dialogues": dialogues})


def own_pairs(pairs: Stage, *, choose: str = "", reject: str = "") -> Stage:
    """The prompts and answers of a pairs stage, chosen or rejected by functions from a notebook in place of its rules.

    Raises ValueError for pairs of the hub, where the named rules alone serve.
    """
    if not isinstance(pairs.recipe, WorldPairs):
        raise ValueError(
            "reject= and choose= serve pairs of the world alone; for the hub's name a rule: rejected='worst'"
        )
    recipe = OwnWorldPairs(**dataclasses.asdict(pairs.recipe), own_choose=choose, own_reject=reject)
    return Stage("own_pairs", "zephyr_lab.methods.stages.own_pairs:build", recipe, seed=pairs.seed)


def own_rubric(evaluation: Stage, own: str) -> Stage:
    """The answers of an evaluation, judged by a rubric from a notebook in place of the exact judge."""
    asked = evaluation.recipe
    recipe = OwnRubric(world=asked.world, questions=asked.questions, own_rubric=own)
    build = "zephyr_lab.methods.stages.own_rubric:build"
    return Stage("own_rubric", build, recipe, seed=evaluation.seed, inputs={"evaluation": evaluation})


def dsft(
    profile: str,
    seed: int,
    *,
    start: Model | None = None,
    data: Stage | None = None,
    setting: str = PAPER,
    **changes: Any,
) -> Stage:
    """dSFT of `start` (base 0) on `data` (the profile's dialogues; pairs serve too: their chosen answers).

    `setting` names whose recipe, carried over to this scale; `changes` are fields of `DSFTRecipe`, e.g. epochs=3.
    """
    start = start or base(profile)
    recipe = in_setting(setting, "dsft", settings.load("zephyr", profile, "dsft", DSFTRecipe, start=start.folder))
    return Stage(
        "dsft",
        "zephyr_lab.methods.stages.sft:build",
        changed(recipe, changes),
        seed=seed,
        inputs={"base": start.stage, "dialogues": data or dialogues(profile, seed)},
    )


def ddpo(
    profile: str,
    seed: int,
    *,
    start: Model | None = None,
    data: Stage | None = None,
    setting: str = PAPER,
    loss: str | None = None,
    **changes: Any,
) -> Stage:
    """dDPO of `start` (the dSFT of the same setting), which is also the reference, on `data` (the setting's pairs).

    `setting` names whose recipe, carried over to this scale; `changes` are fields of `DDPORecipe`, e.g. beta=0.01.
    `loss`: another than DPO's, as `engine.own_code.captured` made it of a function.
    """
    start = start or Model(dsft(profile, seed, setting=setting))
    recipe = in_setting(setting, "ddpo", settings.load("zephyr", profile, "ddpo", DDPORecipe, start=start.folder))
    recipe = changed(recipe, changes)
    return Stage(
        "ddpo",
        "zephyr_lab.methods.stages.dpo:build",
        recipe if loss is None else OwnLossDPO(**dataclasses.asdict(recipe), own_loss=loss),
        seed=seed,
        inputs={"policy": start.stage, "pairs": data or pairs(profile, seed, setting=setting)},
    )


def pair_accuracy(run: Stage) -> Stage:
    """How the implicit reward of a dDPO stage ranks its pairs after each epoch that it kept, and at its end.

    Raises TypeError for any other stage.
    """
    made = run.recipe
    if not isinstance(made, DDPORecipe):
        raise TypeError(f"expected a dDPO stage, got {run.name} with {type(made).__name__}")
    kept = range(1, made.epochs) if made.keep_epochs else ()
    asked = PairAccuracy(
        start=made.start,
        folders=(*(f"epochs/{epoch}" for epoch in kept), ""),
        max_length=made.max_length,
        max_prompt_length=made.max_prompt_length,
        long_prompts=made.long_prompts,
        system_turn=made.system_turn,
        rows_at_once=made.micro_batch,
        device=made.device,
    )
    inputs = {"policy": run, "reference": run.inputs["policy"], "pairs": run.inputs["pairs"]}
    return Stage("pair_accuracy", "zephyr_lab.methods.stages.pair_accuracy:build", asked, seed=run.seed, inputs=inputs)


def multiple_choice_of(profile: str, seed: int, model: Model, **changes: Any) -> Stage:
    """The multiple-choice sets asked of one model, whatever an experiment calls it; `seed` decides nothing.

    `changes`: fields of `MultipleChoice`, e.g. questions=20.
    """
    recipe = settings.load("zephyr", profile, "choices", MultipleChoice, models=("model",), folders=(model.folder,))
    build = "zephyr_lab.methods.stages.multiple_choice:build"
    return Stage("choices", build, changed(recipe, changes), seed=seed, inputs={"model": model.stage})


def evaluation_of(profile: str, seed: int, model: Model, *, held_out: Stage | None = None, **changes: Any) -> Stage:
    """As `evaluation`, of one model alone, whatever an experiment calls it: arms of several notebooks share it."""
    return evaluation(profile, seed, {"model": model}, held_out=held_out, **changes)


def evaluation(
    profile: str, seed: int, models: Mapping[str, Model | Stage], *, held_out: Stage | None = None, **changes: Any
) -> Stage:
    """The benchmark asked of `models` (name -> model) in one worker; `seed` decides the draws, the same for all.

    `held_out`: pairs on whose test split each model's own ranking is measured too. The stage's answers.json names the
    models as here; `answer_scores` reads it.
    """
    asked = {name: model if isinstance(model, Model) else Model(model) for name, model in models.items()}
    recipe = settings.load(
        "zephyr",
        profile,
        "evaluation",
        Evaluation,
        models=tuple(asked),
        folders=tuple(model.folder for model in asked.values()),
        system_turns=tuple(model.system_turn for model in asked.values()),
    )
    inputs = {name: model.stage for name, model in asked.items()}
    if held_out is not None:
        inputs[PAIRS] = held_out
    build = "zephyr_lab.methods.stages.evaluate:build"
    return Stage("evaluation", build, changed(recipe, changes), seed=seed, inputs=inputs)


def _data(profile: str, world: type[Recipe], hub: type[Recipe]) -> tuple[str, type[Recipe]]:
    """The module that builds a profile's data and the recipe it takes."""
    if profile in HUB_PROFILES:
        return "zephyr_lab.methods.stages.hub_data", hub
    return "zephyr_lab.methods.stages.world_data", world


def changed(recipe: Any, changes: Mapping[str, Any]) -> Any:
    """`recipe` with `changes`. Raises ValueError naming the fields it has, TypeError for a value of another type."""
    known = {field.name: field for field in dataclasses.fields(recipe)}
    kind = type(recipe).__name__
    for name in changes:
        if name not in known:
            raise ValueError(f"{kind} has no field {name!r}; it has {', '.join(known)}")
    typed = {name: settings.of_type(known[name], value, kind) for name, value in changes.items()}
    return dataclasses.replace(recipe, **typed)


HUB_PROFILES = ("gpu", "paper")  # real language: a model of the hub instead of one trained on the world


def base_stage(profile: str, seed: int = 0) -> Stage:
    """The base model of `profile`. `seed` decides text and weights; a model of the hub is the same for all seeds."""
    if profile in HUB_PROFILES:
        return Stage(
            "base", "zephyr_lab.methods.stages.hub_model:build", settings.load("zephyr", profile, "base", HubModel)
        )
    recipe = settings.load("zephyr", profile, "base", Pretrain)
    return Stage("base", "zephyr_lab.methods.stages.pretrain:build", recipe, seed=seed)
