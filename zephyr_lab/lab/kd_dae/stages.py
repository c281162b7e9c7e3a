"""KD and DAE as stages of a profile: data, teachers, students, each the paper's recipe with named changes.

Recipes come from papers/kd_dae/settings.toml. Teachers and expert belong to a profile alone, as the papers train all
runs from the same ones. `changes` are fields of the recipe named in each docstring; `kd_dae.laboratory` says more of
each. Kothari et al. 2024, arXiv 2406.19112.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from zephyr_lab.core import files, paths, settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab.zephyr_stages import BUILDS, HUB_PROFILES, MODEL, Model, base, changed
from zephyr_lab.methods.recipes.dae import DAERecipe
from zephyr_lab.methods.recipes.dpo import DDPORecipe
from zephyr_lab.methods.recipes.evaluate import PAIRS
from zephyr_lab.methods.recipes.hub_data import HubDialogues
from zephyr_lab.methods.recipes.hub_model import HubModel
from zephyr_lab.methods.recipes.kd import DoseRecipe, KDRecipe, OnPolicyKDRecipe
from zephyr_lab.methods.recipes.kd_data import (
    DomainPairs,
    FolderMix,
    FolderPairs,
    MixedDialogues,
    OwnAnswers,
    PublicMix,
    QualityDialogues,
)
from zephyr_lab.methods.recipes.kd_evaluate import DIALOGUES, START, KDEvaluation
from zephyr_lab.methods.recipes.mixtures import Merge, Upcycle
from zephyr_lab.methods.recipes.own_kd import OwnLossKD
from zephyr_lab.methods.recipes.sft import DSFTRecipe
from zephyr_lab.methods.recipes.world_data import WorldDialogues

PAPER = "kd_dae"
TEACHER_SEED = 0  # of teachers and expert: one of each a profile
UNREAD = ""  # the digest of a recipe whose folder was not looked at yet
WORLD_DIALOGUES = ("world_data:build_dialogues", WorldDialogues)
HUB_DIALOGUES = ("hub_data:build_dialogues", HubDialogues)

# --- data: each stage holds train.jsonl and test.jsonl ----------------------------------------------------------------


def random_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """ "R" of Table 2: dialogues as they come, unfiltered. Changes: `WorldDialogues` (`HubDialogues` of the hub)."""
    how = HUB_DIALOGUES if profile in HUB_PROFILES else WORLD_DIALOGUES
    return _stage("random_dialogues", *how, profile, seed, changes)


def qa_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """ "QA" of Table 2 in our reading: the filters, then a judge's threshold; of the hub, without a judge, the filters
    alone. Changes: `QualityDialogues` (`HubDialogues`)."""
    how = HUB_DIALOGUES if profile in HUB_PROFILES else ("kd_data:build_quality", QualityDialogues)
    return _stage("qa_dialogues", *how, profile, seed, changes)


def scale_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """The data of KD at scale (3.1.2): more of the world, or the six public sets. Changes: their recipe's fields."""
    how = ("kd_public_data:build", PublicMix) if profile in HUB_PROFILES else WORLD_DIALOGUES
    return _stage("scale_dialogues", *how, profile, seed, changes)


def own_answers(profile: str, seed: int, *, teacher: Model, data: Stage, **changes: Any) -> Stage:
    """The questions of `data` answered by `teacher` itself. Changes: `OwnAnswers`."""
    inputs = {"teacher": teacher.stage, "dialogues": data}
    build = "own_answers:build"
    return _stage("own_answers", build, OwnAnswers, profile, seed, changes, inputs, teacher=teacher.folder)


def mixed_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """The data of DAE: general and e-commerce rows, each with its flag. Changes: `MixedDialogues`; of the hub
    `FolderMix`, a folder of domain data beside the general rows of `scale_dialogues`."""
    return _mixed("mixed_dialogues", profile, seed, changes)


# --- teachers and expert: one of each a profile -----------------------------------------------------------------------


def teacher_dialogues(profile: str) -> Stage:
    """Clean dialogues that the world's teachers learn from. The hub's teachers need none."""
    return _stage("teacher_dialogues", *WORLD_DIALOGUES, profile, TEACHER_SEED)


def same_size_teacher(profile: str, **changes: Any) -> Stage:
    """The base trained on clean dialogues: Mistral-7B-Instruct's place. Changes: `DSFTRecipe`."""
    if profile in HUB_PROFILES:
        return _hub_model(profile, "same_size_teacher", changes)
    inputs = {"base": base(profile).stage, "dialogues": teacher_dialogues(profile)}
    how = ("sft:build", DSFTRecipe)
    return _stage("same_size_teacher", *how, profile, TEACHER_SEED, changes, inputs, start="")


def larger_teacher(profile: str, **changes: Any) -> Stage:
    """A mixture upcycled from the base, trained on the same clean dialogues: Mixtral-Instruct's place. Changes:
    `DoseRecipe`."""
    if profile in HUB_PROFILES:
        return _hub_model(profile, "larger_teacher", changes)
    start = upcycled(profile, TEACHER_SEED, start=base(profile))
    inputs = {"base": start, "dialogues": teacher_dialogues(profile)}
    return _stage("larger_teacher", "dose:build", DoseRecipe, profile, TEACHER_SEED, changes, inputs, start="")


def upcycled(profile: str, seed: int, *, start: Model, **changes: Any) -> Stage:
    """A mixture whose experts are all copies of `start`, not trained. Changes: `Upcycle`."""
    inputs = {"dense": start.stage}
    return _stage("upcycle", "mixtures:build_upcycle", Upcycle, profile, seed, changes, inputs, start=start.folder)


def domain_expert(profile: str, **changes: Any) -> Stage:
    """The e-commerce expert: `expert_sft` of the base, then DPO on e-commerce pairs. Changes: `DDPORecipe`."""
    inputs = {"policy": expert_sft(profile), "pairs": expert_pairs(profile)}
    recipe = changed(settings.load(PAPER, profile, "expert_ddpo", DDPORecipe, start=""), changes)
    return Stage("expert", f"{BUILDS}.dpo:build", recipe, TEACHER_SEED, inputs)


def expert_sft(profile: str) -> Stage:
    """The expert before DPO: its base trained on e-commerce dialogues."""
    start = _hub_model(profile, "expert_base") if profile in HUB_PROFILES else base(profile).stage
    inputs = {"base": start, "dialogues": expert_dialogues(profile)}
    return _stage("expert_sft", "sft:build", DSFTRecipe, profile, TEACHER_SEED, {}, inputs, start="")


def expert_dialogues(profile: str) -> Stage:
    """What the expert learns from: mostly e-commerce dialogues."""
    return _mixed("expert_dialogues", profile, TEACHER_SEED)


def expert_pairs(profile: str) -> Stage:
    """The expert's preference pairs."""
    if profile in HUB_PROFILES:
        return _of_folder("expert_pairs", "kd_public_data:build_pairs", FolderPairs, profile, TEACHER_SEED)
    return _stage("expert_pairs", "kd_data:build_pairs", DomainPairs, profile, TEACHER_SEED)


# --- students ---------------------------------------------------------------------------------------------------------


def sft(profile: str, seed: int, *, start: Model, data: Stage, **changes: Any) -> Stage:
    """Supervised fine-tuning: eq. 1 on answers, as Table 2. Changes: `DSFTRecipe`."""
    inputs = {"base": start.stage, "dialogues": data}
    return _stage("sft", "sft:build", DSFTRecipe, profile, seed, changes, inputs, start=start.folder)


def kd(
    profile: str, seed: int, *, start: Model, data: Stage, teacher: Model, loss: str | None = None, **changes: Any
) -> Stage:
    """Distillation of `teacher` into `start` on `data`: eq. 5. Changes: `KDRecipe`.

    loss: another than eq. 2's, as `engine.own_code.captured` made it of a function of `methods.own_kd`'s kind.
    """
    stage = _distilled("kd", "kd:build", KDRecipe, profile, seed, start, data, teacher, changes)
    if loss is None:
        return stage
    own = OwnLossKD(**dataclasses.asdict(stage.recipe), own_loss=loss)
    return dataclasses.replace(stage, build=f"{BUILDS}.own_kd:build", recipe=own)


def on_policy_kd(profile: str, seed: int, *, start: Model, data: Stage, teacher: Model, **changes: Any) -> Stage:
    """As `kd`, on answers that the student samples as it learns. Changes: `OnPolicyKDRecipe`."""
    how = ("on_policy_kd:build", OnPolicyKDRecipe)
    return _distilled("on_policy_kd", *how, profile, seed, start, data, teacher, changes)


def scale_kd(profile: str, seed: int, *, start: Model, data: Stage, teacher: Model, **changes: Any) -> Stage:
    """KD at scale (3.1.2): as `kd`, by its own settings. Changes: `KDRecipe`."""
    return _distilled("scale_kd", "kd:build", KDRecipe, profile, seed, start, data, teacher, changes)


def merged(
    profile: str,
    seed: int,
    *,
    first: Model,
    second: Model,
    prompts: tuple[Stage, Stage] | None = None,
    **changes: Any,
) -> Stage:
    """A mixture of two dense models, not trained. prompts: dialogues of the first and of the second model, which
    router="hidden" needs (random and e-commerce ones by default). Changes: `Merge`."""
    recipe = settings.load(PAPER, profile, "merge", Merge, first=first.folder, second=second.folder)
    recipe = changed(recipe, changes)
    inputs = {"first": first.stage, "second": second.stage}
    if recipe.router == "hidden":
        general, domain = prompts or (random_dialogues(profile, seed), expert_dialogues(profile))
        inputs |= {"first_prompts": general, "second_prompts": domain}
    return Stage("merge", f"{BUILDS}.mixtures:build_merge", recipe, seed, inputs)


def dae(
    profile: str,
    seed: int,
    *,
    start: Model,
    data: Stage,
    expert: Model,
    general_teacher: Model | None = None,
    **changes: Any,
) -> Stage:
    """Domain alignment of `start` from `expert` on flagged `data`: eq. 6. General rows follow `general_teacher`, by
    default the frozen start itself, as printed. Changes: `DAERecipe`."""
    general = {} if general_teacher is None else {"general": general_teacher.stage}
    inputs = {"student": start.stage, "expert": expert.stage, **general, "dialogues": data}
    folders = {"start": start.folder, "expert": expert.folder}
    folders["general"] = "" if general_teacher is None else general_teacher.folder
    return _stage("dae", "dae:build", DAERecipe, profile, seed, changes, inputs, **folders)


def tuned(profile: str, seed: int, *, start: Model, data: Stage, **changes: Any) -> Stage:
    """Plain fine-tuning of `start` on DAE's data, flags ignored; batch, steps and schedule are DAE's. Changes:
    `DoseRecipe`."""
    inputs = {"base": start.stage, "dialogues": data}
    return _stage("tuned", "dose:build", DoseRecipe, profile, seed, changes, inputs, start=start.folder)


# --- what they answer -------------------------------------------------------------------------------------------------


def evaluation(
    profile: str,
    seed: int,
    model: Model,
    *,
    hot: bool = False,
    start: Model | None = None,
    held_out: Stage | None = None,
    **changes: Any,
) -> Stage:
    """General and domain questions asked of one model, so that notebooks share it; seed decides the draws.

    hot: also the run at one temperature. start: the model from which the divergence is measured, on held-out random
    dialogues. held_out: pairs on whose test split the model's own ranking is measured. Changes: `KDEvaluation`.
    """
    inputs = {MODEL: model.stage}
    if start is not None:
        inputs |= {START: start.stage, DIALOGUES: random_dialogues(profile, seed)}
    if held_out is not None:
        inputs[PAIRS] = held_out
    fields = {**model.asked, "hot": hot, "start": "" if start is None else start.folder}
    recipe = changed(settings.load(PAPER, profile, "evaluation", KDEvaluation, **fields), changes)
    return Stage("kd_evaluation", f"{BUILDS}.kd_evaluate:build", recipe, seed, inputs)


# --- parts ------------------------------------------------------------------------------------------------------------


def _stage(
    section: str,
    build: str,
    kind: type,
    profile: str,
    seed: int,
    changes: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Stage] | None = None,
    **fields: Any,
) -> Stage:
    """The stage of a table of the settings; `fields` are those of its recipe that the table does not hold."""
    recipe = changed(settings.load(PAPER, profile, section, kind, **fields), changes or {})
    return Stage(section, f"{BUILDS}.{build}", recipe, seed, inputs or {})


def _distilled(
    section: str,
    build: str,
    kind: type,
    profile: str,
    seed: int,
    start: Model,
    data: Stage,
    teacher: Model,
    changes: Mapping[str, Any],
) -> Stage:
    inputs = {"student": start.stage, "teacher": teacher.stage, "dialogues": data}
    folders = {"start": start.folder, "teacher": teacher.folder}
    return _stage(section, build, kind, profile, seed, changes, inputs, **folders)


def _mixed(section: str, profile: str, seed: int, changes: Mapping[str, Any] | None = None) -> Stage:
    """General and e-commerce rows by the settings of `section`; of the hub, a folder beside the general rows."""
    if profile in HUB_PROFILES:
        inputs = {"general": scale_dialogues(profile, seed)}
        return _of_folder(section, "kd_public_data:build_mix", FolderMix, profile, seed, changes, inputs)
    return _stage(section, "kd_data:build_mixed", MixedDialogues, profile, seed, changes)


def _hub_model(profile: str, section: str, changes: Mapping[str, Any] | None = None) -> Stage:
    return _stage(section, "hub_model:build", HubModel, profile, 0, changes)


def _of_folder(
    section: str,
    build: str,
    kind: type,
    profile: str,
    seed: int,
    changes: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Stage] | None = None,
) -> Stage:
    """A stage of a user's folder below the data folder; its recipe knows the folder's contents as they are now."""
    stage = _stage(section, build, kind, profile, seed, changes, inputs, digest=UNREAD)
    recipe = dataclasses.replace(stage.recipe, digest=digest_of(stage.recipe.folder))
    return dataclasses.replace(stage, recipe=recipe)


def digest_of(folder: str) -> str:
    """Digest of the files of a folder below the data folder; "absent" where there is none, as its build will say."""
    data = paths.data_dir()
    if data is None or not (data / folder).is_dir():
        return "absent"
    listed = sorted(path for path in (data / folder).rglob("*") if path.is_file())
    lines = (f"{path.relative_to(data / folder).as_posix()} {files.sha256(path)}" for path in listed)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
