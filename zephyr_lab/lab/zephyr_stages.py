"""Zephyr's steps as stages: base, data, dSFT, dDPO, evaluation, each the paper's recipe with named changes.

Recipes come from papers/zephyr/settings.toml. Notebooks that ask for equal recipes share the stages.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zephyr_lab.core import settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.methods.recipes.data import HubDialogues, HubPairs, OwnFilter, OwnWorldPairs, WorldDialogues, WorldPairs
from zephyr_lab.methods.recipes.evaluate import PAIRS, Evaluation, MultipleChoice, OwnRubric, PairAccuracy
from zephyr_lab.methods.recipes.pairs import DDPORecipe, OwnLossDPO
from zephyr_lab.methods.recipes.pretrain import HubModel, Pretrain
from zephyr_lab.methods.recipes.training import DSFTRecipe, LoRASFT, Training
from zephyr_lab.methods.recipes.zephyr_settings import PAPER, in_setting

HUB_PROFILES = ("gpu", "paper")  # real language: a model of the hub instead of one trained on the world
BUILDS = "zephyr_lab.methods.stages"
# Table of settings.toml (or several, the stage's own last), build function below `BUILDS`, recipe.
Step = tuple[str | tuple[str, ...], str, type]
MODEL = "model"  # the name under which a stage asks its one model


@dataclass(frozen=True)
class Model:
    """A trained model: its stage, and the folder inside it: "" the final model, "epochs/1" that after one epoch."""

    stage: Stage
    folder: str = ""

    @property
    def system_turn(self) -> bool:
        """Whether it was trained with an empty system turn first, and is to be asked so."""
        return isinstance(self.stage.recipe, Training) and self.stage.recipe.system_turn

    @property
    def asked(self) -> dict[str, tuple[Any, ...]]:
        """The fields of an evaluation's recipe that name this model alone, whatever an experiment calls it."""
        return {"models": (MODEL,), "folders": (self.folder,), "system_turns": (self.system_turn,)}


def base_stage(profile: str, seed: int = 0) -> Stage:
    """The base model of `profile`. `seed` decides text and weights; a model of the hub is the same for all seeds."""
    if profile in HUB_PROFILES:
        return stage("zephyr", ("base", "pretrain:build_hub_model", HubModel), profile)
    return stage("zephyr", ("base", "pretrain:build", Pretrain), profile, seed)


def base(profile: str, number: int = 0) -> Model:
    """The base model `number` of the profile; all seeds of an experiment start from number 0 unless said."""
    return Model(base_stage(profile, number))


def dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """The dialogues of dSFT; `changes`: fields of the recipe (`WorldDialogues`, `HubDialogues`), e.g. filters=()."""
    module, kind = ("hub_data", HubDialogues) if profile in HUB_PROFILES else ("world_data", WorldDialogues)
    return stage("zephyr", ("dialogues", f"{module}:build_dialogues", kind), profile, seed, changes)


def pairs(profile: str, seed: int, *, setting: str = PAPER, table: str = "pairs", **changes: Any) -> Stage:
    """The preference pairs of dDPO. `setting`: whose binarisation (`zephyr_settings.SETTINGS`).

    `table`: of settings.toml, "pairs" or "close_pairs", whose chosen answers are less far above the dSFT data.
    `changes`: fields of the recipe (`WorldPairs`, `HubPairs`), e.g. rejected="worst".
    """
    module, kind = ("hub_data", HubPairs) if profile in HUB_PROFILES else ("world_data", WorldPairs)
    recipe = in_setting(setting, "pairs", settings.load("zephyr", profile, ("preferences", table), kind))
    return Stage("pairs", f"{BUILDS}.{module}:build_pairs", changed(recipe, changes), seed=seed)


def own_filter(dialogues: Stage, own: str) -> Stage:
    """What a filter from a notebook (`engine.own_code.captured`) leaves of the dialogues of a stage."""
    inputs = {"dialogues": dialogues}
    return Stage(
        "own_filter", f"{BUILDS}.own_functions:build_filter", OwnFilter(own_filter=own), dialogues.seed, inputs
    )


def own_pairs(pairs: Stage, *, choose: str = "", reject: str = "") -> Stage:
    """The prompts and answers of a pairs stage, chosen or rejected by functions from a notebook in place of its rules.

    Raises ValueError for pairs of the hub, where only named rules can be used.
    """
    if not isinstance(pairs.recipe, WorldPairs):
        raise ValueError("reject= and choose= need pairs of the world; for the hub's name a rule: rejected='worst'")
    recipe = OwnWorldPairs(**dataclasses.asdict(pairs.recipe), own_choose=choose, own_reject=reject)
    return Stage("own_pairs", f"{BUILDS}.own_functions:build_pairs", recipe, pairs.seed)


def own_rubric(evaluation: Stage, own: str) -> Stage:
    """The answers of an evaluation, judged by a rubric from a notebook in place of the exact judge."""
    recipe = OwnRubric(world=evaluation.recipe.world, questions=evaluation.recipe.questions, own_rubric=own)
    return Stage(
        "own_rubric", f"{BUILDS}.own_functions:build_rubric", recipe, evaluation.seed, {"evaluation": evaluation}
    )


def dsft(
    profile: str,
    seed: int,
    *,
    start: Model | None = None,
    data: Stage | None = None,
    setting: str = PAPER,
    lora: int | None = None,
    **changes: Any,
) -> Stage:
    """dSFT of `start` (base 0) on `data` (the profile's dialogues; of pairs, their chosen answers).

    `setting` names whose recipe, carried over to this scale; `changes` are fields of `DSFTRecipe`, e.g. epochs=3.
    `lora`: the rank of an adapter that is trained in place of all weights, with its cost, and merged.
    """
    start = start or base(profile)
    recipe = in_setting(setting, "dsft", settings.load("zephyr", profile, "dsft", DSFTRecipe, start=start.folder))
    inputs = {"base": start.stage, "dialogues": data or dialogues(profile, seed)}
    recipe = changed(recipe, changes)
    if lora is not None:
        adapter = LoRASFT(**dataclasses.asdict(recipe), lora=lora)
        return Stage("lora", f"{BUILDS}.metered:build_lora", adapter, seed, inputs)
    return Stage("dsft", f"{BUILDS}.sft:build", recipe, seed, inputs)


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
    if loss is not None:
        recipe = OwnLossDPO(**dataclasses.asdict(recipe), own_loss=loss)
    inputs = {"policy": start.stage, "pairs": data or pairs(profile, seed, setting=setting)}
    return Stage("ddpo", f"{BUILDS}.dpo:build", recipe, seed, inputs)


def pair_accuracy(run: Stage) -> Stage:
    """How the implicit reward of a dDPO stage ranks its pairs after each epoch that it kept, and at its end.

    Raises TypeError for any other stage.
    """
    trained = run.recipe
    if not isinstance(trained, DDPORecipe):
        raise TypeError(f"expected a dDPO stage, got {run.name} with {type(trained).__name__}")
    kept = range(1, trained.epochs) if trained.keep_epochs else ()
    same = ("start", "max_length", "max_prompt_length", "long_prompts", "system_turn", "device")
    recipe = PairAccuracy(
        folders=(*(f"epochs/{epoch}" for epoch in kept), ""),
        rows_at_once=trained.micro_batch,
        **{name: getattr(trained, name) for name in same},
    )
    inputs = {"policy": run, "reference": run.inputs["policy"], "pairs": run.inputs["pairs"]}
    return Stage("pair_accuracy", f"{BUILDS}.evaluate:build_pair_accuracy", recipe, run.seed, inputs)


def multiple_choice(profile: str, seed: int, model: Model, **changes: Any) -> Stage:
    """The multiple-choice sets asked of one model; `seed` decides nothing. `changes`: fields of `MultipleChoice`, e.g.
    questions=20."""
    step, folders = ("choices", "evaluate:build_multiple_choice", MultipleChoice), (model.folder,)
    return stage("zephyr", step, profile, seed, changes, {MODEL: model.stage}, models=(MODEL,), folders=folders)


def evaluation(profile: str, seed: int, model: Model, *, held_out: Stage | None = None, **changes: Any) -> Stage:
    """The chat benchmark asked of one model, so that notebooks share it; `seed` decides the draws.

    `held_out`: pairs on whose test split the model's own ranking is measured too. `changes`: fields of `Evaluation`.
    """
    inputs = {MODEL: model.stage} | ({} if held_out is None else {PAIRS: held_out})
    return stage("zephyr", ("evaluation", "evaluate:build", Evaluation), profile, seed, changes, inputs, **model.asked)


def stage(
    paper: str,
    step: Step,
    profile: str,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Stage] | None = None,
    /,
    *,
    name: str = "",
    **fields: Any,
) -> Stage:
    """The stage of a table of a paper's settings, called as the table or by its own `name`; `fields` are those of its
    recipe that the table does not hold."""
    table, build, kind = step
    recipe = changed(settings.load(paper, profile, table, kind, **fields), changes or {})
    own = table if isinstance(table, str) else table[-1]
    return Stage(name or own, f"{BUILDS}.{build}", recipe, seed, inputs or {})


def changed(recipe: Any, changes: Mapping[str, Any]) -> Any:
    """`recipe` with `changes`. Raises ValueError naming the fields it has, TypeError for a value of another type."""
    known = {field.name: field for field in dataclasses.fields(recipe)}
    kind = type(recipe).__name__
    for name in changes:
        if name not in known:
            raise ValueError(f"{kind} has no field {name!r}; it has {', '.join(known)}")
    typed = {name: settings.of_type(known[name], value, kind) for name, value in changes.items()}
    return dataclasses.replace(recipe, **typed)
