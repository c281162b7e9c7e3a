"""KD and DAE as stages of a profile: data, teachers, students, each the paper's recipe with named changes.

Recipes come from papers/kd_dae/settings.toml. Every function takes (profile, seed); teachers and expert belong to a
profile alone, as the papers train all runs from the same ones. `changes` are fields of the recipe named in each
docstring. Kothari et al. 2024, arXiv 2406.19112.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from zephyr_lab.core import files, paths, settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab.zephyr_stages import HUB_PROFILES, Model, base, changed
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
MODEL = "model"  # the name of whoever is asked
TEACHER_SEED = 0  # of teachers and expert: one of each a profile

# --- data: each stage holds train.jsonl and test.jsonl ----------------------------------------------------------------


def random_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """ "R" of Table 2: dialogues as they come, unfiltered. Changes: `WorldDialogues` (`HubDialogues` of the hub)."""
    if profile in HUB_PROFILES:
        return _data("random_dialogues", "stages.hub_data:build_dialogues", HubDialogues, profile, seed, changes)
    return _data("random_dialogues", "stages.world_data:build_dialogues", WorldDialogues, profile, seed, changes)


def qa_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """ "QA" of Table 2 in our reading: the filters, then a judge's threshold; as many rows as `random_dialogues`.

    Changes: `QualityDialogues`, e.g. least_score=9.0. Of the hub, without a judge, the filters alone (`HubDialogues`).
    """
    if profile in HUB_PROFILES:
        return _data("qa_dialogues", "stages.hub_data:build_dialogues", HubDialogues, profile, seed, changes)
    return _data("qa_dialogues", "stages.kd_data:build_quality", QualityDialogues, profile, seed, changes)


def scale_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """The data of KD at scale (3.1.2): more of the world, or the six public sets. Changes: their recipe's fields."""
    if profile in HUB_PROFILES:
        return _data("scale_dialogues", "stages.kd_public_data:build", PublicMix, profile, seed, changes)
    return _data("scale_dialogues", "stages.world_data:build_dialogues", WorldDialogues, profile, seed, changes)


def own_answers(profile: str, seed: int, *, teacher: Model | Stage, data: Stage | None = None, **changes: Any) -> Stage:
    """The questions of `data` (random dialogues) answered by `teacher` itself: sequence-level KD, a control.

    `sft(..., data=own_answers(...))` trains on them. Changes: `OwnAnswers`, e.g. temperature=0.0.
    """
    asked = as_model(teacher)
    recipe = settings.load(PAPER, profile, "own_answers", OwnAnswers, teacher=asked.folder)
    return Stage(
        "own_answers",
        "zephyr_lab.methods.stages.own_answers:build",
        changed(recipe, changes),
        seed=seed,
        inputs={"teacher": asked.stage, "dialogues": data or random_dialogues(profile, seed)},
    )


def mixed_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """The data of DAE: general and e-commerce rows, each with its flag. Changes: `MixedDialogues`, e.g.
    domain_share=0.05; domain_share=1.0 is domain data alone.

    Of the hub: `FolderMix`, a folder of domain data beside the general rows of `scale_dialogues`.
    """
    return _mixed("mixed_dialogues", profile, seed, changes)


# --- teachers and expert: one of each a profile -----------------------------------------------------------------------


def teacher_dialogues(profile: str, **changes: Any) -> Stage:
    """Clean dialogues that the world's teachers learn from. Changes: `WorldDialogues`. The hub's teachers need none."""
    return _data(
        "teacher_dialogues", "stages.world_data:build_dialogues", WorldDialogues, profile, TEACHER_SEED, changes
    )


def same_size_teacher(profile: str, **changes: Any) -> Stage:
    """The base trained on clean dialogues: Mistral-7B-Instruct's place. Changes: `DSFTRecipe`."""
    if profile in HUB_PROFILES:
        return _hub_model(profile, "same_size_teacher", changes)
    return _teacher(profile, "same_size_teacher", "stages.sft:build", DSFTRecipe, base(profile), changes)


def larger_teacher(profile: str, **changes: Any) -> Stage:
    """A mixture upcycled from the base, trained on the same clean dialogues: Mixtral-Instruct's place.

    Same layers and heads as the student, so attention maps pair one to one. Changes: `DoseRecipe`.
    """
    if profile in HUB_PROFILES:
        return _hub_model(profile, "larger_teacher", changes)
    return _teacher(profile, "larger_teacher", "stages.dose:build", DoseRecipe, Model(upcycled(profile)), changes)


def upcycled(profile: str, seed: int = TEACHER_SEED, *, start: Model | Stage | None = None, **changes: Any) -> Stage:
    """A mixture whose experts are all copies of `start` (the base), not trained. Changes: `Upcycle`."""
    dense = as_model(start or base(profile))
    recipe = settings.load(PAPER, profile, "upcycle", Upcycle, start=dense.folder)
    return Stage(
        "upcycle",
        "zephyr_lab.methods.stages.mixtures:build_upcycle",
        changed(recipe, changes),
        seed=seed,
        inputs={"dense": dense.stage},
    )


def domain_expert(profile: str, **changes: Any) -> Stage:
    """The e-commerce expert: `expert_sft` of the base, then DPO on e-commerce pairs. Changes: `DDPORecipe`.

    Good in the domain, average elsewhere.
    """
    start = Model(expert_sft(profile))
    recipe = settings.load(PAPER, profile, "expert_ddpo", DDPORecipe, start=start.folder)
    return Stage(
        "expert",
        "zephyr_lab.methods.stages.dpo:build",
        changed(recipe, changes),
        seed=TEACHER_SEED,
        inputs={"policy": start.stage, "pairs": expert_pairs(profile)},
    )


def expert_sft(profile: str, **changes: Any) -> Stage:
    """The expert before DPO: its base trained on e-commerce dialogues. Changes: `DSFTRecipe`."""
    start = Model(_hub_model(profile, "expert_base", {})) if profile in HUB_PROFILES else base(profile)
    recipe = settings.load(PAPER, profile, "expert_sft", DSFTRecipe, start=start.folder)
    return Stage(
        "expert_sft",
        "zephyr_lab.methods.stages.sft:build",
        changed(recipe, changes),
        seed=TEACHER_SEED,
        inputs={"base": start.stage, "dialogues": expert_dialogues(profile)},
    )


def expert_dialogues(profile: str, **changes: Any) -> Stage:
    """What the expert learns from: mostly e-commerce dialogues. Changes: `MixedDialogues` (`FolderMix` of the hub)."""
    return _mixed("expert_dialogues", profile, TEACHER_SEED, changes)


def expert_pairs(profile: str, **changes: Any) -> Stage:
    """The expert's preference pairs. Changes: `DomainPairs` (`FolderPairs` of the hub)."""
    if profile in HUB_PROFILES:
        recipe = settings.load(PAPER, profile, "expert_pairs", FolderPairs, digest=UNREAD)
        recipe = with_digest(changed(recipe, changes))
        build = "zephyr_lab.methods.stages.kd_public_data:build_pairs"
        return Stage("expert_pairs", build, recipe, seed=TEACHER_SEED)
    return _data("expert_pairs", "stages.kd_data:build_pairs", DomainPairs, profile, TEACHER_SEED, changes)


# --- students ---------------------------------------------------------------------------------------------------------


def sft(
    profile: str, seed: int, *, start: Model | Stage | None = None, data: Stage | None = None, **changes: Any
) -> Stage:
    """Supervised fine-tuning of `start` (the base) on `data` (random dialogues): eq. 1 on answers, as Table 2.

    Steps and batches are those of `kd`. Changes: `DSFTRecipe`, e.g. answers_only=False for all positions, as printed.
    """
    student = as_model(start or base(profile))
    recipe = settings.load(PAPER, profile, "sft", DSFTRecipe, start=student.folder)
    return Stage(
        "sft",
        "zephyr_lab.methods.stages.sft:build",
        changed(recipe, changes),
        seed=seed,
        inputs={"base": student.stage, "dialogues": data or random_dialogues(profile, seed)},
    )


def kd(
    profile: str,
    seed: int,
    *,
    teacher: Model | Stage | None = None,
    start: Model | Stage | None = None,
    data: Stage | None = None,
    loss: str | None = None,
    **changes: Any,
) -> Stage:
    """Distillation of `teacher` (the same-size one) into `start` (the base) on `data` (random dialogues): eq. 5.

    log.json has a row a log with prediction_loss, attention_loss and cross_entropy, trained or not, and grad_norm
    (with gradient_norms_every also prediction_grad_norm, attention_grad_norm). Changes: `KDRecipe`, e.g.
    prediction_weight=0.0 ("w/o pred"), attention_weight=0.0 ("w/o attn"), ce_weight=1.0 (CE mixed in),
    divergence="reverse", tokens="answers_unshifted", keep_steps=(10, 20) -> Model(stage, "steps/10").
    loss: another than eq. 2's, as `engine.own_code.captured` made it of a function of `methods.own_kd`'s kind.
    """
    stage = _distilled("kd", "stages.kd:build", KDRecipe, profile, seed, teacher, start, data, changes)
    if loss is None:
        return stage
    own = OwnLossKD(**dataclasses.asdict(stage.recipe), own_loss=loss)
    return dataclasses.replace(stage, build="zephyr_lab.methods.stages.own_kd:build", recipe=own)


def on_policy_kd(
    profile: str,
    seed: int,
    *,
    teacher: Model | Stage | None = None,
    start: Model | Stage | None = None,
    data: Stage | None = None,
    **changes: Any,
) -> Stage:
    """As `kd`, on answers that the student samples as it learns: reverse KL (MiniLLM's direction, GKD's data).

    An extra arm. Start it from a model that answers at all, e.g. an `sft`. Changes: `OnPolicyKDRecipe`.
    """
    return _distilled(
        "on_policy_kd", "stages.on_policy_kd:build", OnPolicyKDRecipe, profile, seed, teacher, start, data, changes
    )


def scale_kd(
    profile: str,
    seed: int,
    *,
    teacher: Model | Stage | None = None,
    start: Model | Stage | None = None,
    data: Stage | None = None,
    **changes: Any,
) -> Stage:
    """KD at scale (3.1.2): `kd` of the larger teacher on `scale_dialogues`. Changes: `KDRecipe`.

    start: the base for Flip-7B-alpha's place, `merged(profile, seed)` for Flip-2x7B-alpha's.
    """
    teacher = teacher or larger_teacher(profile)
    data = data or scale_dialogues(profile, seed)
    return _distilled("scale_kd", "stages.kd:build", KDRecipe, profile, seed, teacher, start, data, changes)


def merged(
    profile: str,
    seed: int = 0,
    *,
    first: Model | Stage | None = None,
    second: Model | Stage | None = None,
    prompts: tuple[Stage, Stage] | None = None,
    **changes: Any,
) -> Stage:
    """The 2x student: a mixture of two dense models, not trained. Both default to the base, whose function it keeps.

    prompts: two stages of dialogues, the first model's and the second's, needed for router="hidden" alone (general
    and e-commerce ones otherwise). Changes: `Merge`, e.g. router="hidden", shared="mean".
    """
    one, two = as_model(first or base(profile)), as_model(second or base(profile))
    recipe = settings.load(PAPER, profile, "merge", Merge, first=one.folder, second=two.folder)
    recipe = changed(recipe, changes)
    inputs = {"first": one.stage, "second": two.stage}
    if recipe.router == "hidden":
        general, domain = prompts or (random_dialogues(profile, seed), expert_dialogues(profile))
        inputs |= {"first_prompts": general, "second_prompts": domain}
    return Stage("merge", "zephyr_lab.methods.stages.mixtures:build_merge", recipe, seed=seed, inputs=inputs)


def dae(
    profile: str,
    seed: int,
    *,
    start: Model | Stage,
    expert: Model | Stage | None = None,
    general_teacher: Model | Stage | None = None,
    data: Stage | None = None,
    **changes: Any,
) -> Stage:
    """Domain alignment of `start` from `expert` (the profile's) on flagged `data` (`mixed_dialogues`): eq. 6.

    General rows follow `general_teacher`, by default the frozen start itself, as printed. log.json: domain_loss,
    general_loss (per token of their own rows) and grad_norm beside the trained loss. Changes: `DAERecipe`, e.g.
    reference_term=False, domain_teacher="general" (one teacher for all rows), misrouted=0.5 (flags turned over),
    keep_steps=(10, 20).
    """
    student, domain = as_model(start), as_model(expert or domain_expert(profile))
    folders = {"start": student.folder, "expert": domain.folder, "general": ""}
    inputs = {"student": student.stage, "expert": domain.stage}
    if general_teacher is not None:
        general = as_model(general_teacher)
        folders["general"] = general.folder
        inputs["general"] = general.stage
    inputs["dialogues"] = data or mixed_dialogues(profile, seed)
    recipe = changed(settings.load(PAPER, profile, "dae", DAERecipe, **folders), changes)
    return Stage("dae", "zephyr_lab.methods.stages.dae:build", recipe, seed=seed, inputs=inputs)


def tuned(profile: str, seed: int, *, start: Model | Stage, data: Stage | None = None, **changes: Any) -> Stage:
    """Plain fine-tuning of `start` on DAE's data, flags ignored, with the models of `keep_steps` kept: a dose curve.

    data: `mixed_dialogues(profile, seed)` for mixed fine-tuning (the default), with domain_share=1.0 for the domain
    alone. Batch, steps and schedule are DAE's. Changes: `DoseRecipe`. Model(stage, "steps/10") is the one after 10.
    """
    student = as_model(start)
    recipe = settings.load(PAPER, profile, "tuned", DoseRecipe, start=student.folder)
    return Stage(
        "tuned",
        "zephyr_lab.methods.stages.dose:build",
        changed(recipe, changes),
        seed=seed,
        inputs={"base": student.stage, "dialogues": data or mixed_dialogues(profile, seed)},
    )


# --- what they answer -------------------------------------------------------------------------------------------------


def evaluation(
    profile: str,
    seed: int,
    model: Model | Stage,
    *,
    hot: bool = False,
    start: Model | Stage | None = None,
    held_out: Stage | None = None,
    **changes: Any,
) -> Stage:
    """General and domain questions asked of one model, whatever an experiment calls it: arms of notebooks share it.

    seed decides the draws. hot: also the run at one temperature. start: the model from which the divergence is
    measured, on held-out random dialogues. held_out: pairs on whose test split the model's own ranking is measured.
    Changes: `KDEvaluation`, e.g. per_group=0 for no domain question.
    """
    asked = as_model(model)
    inputs, folder = {MODEL: asked.stage}, ""
    if start is not None:
        folder = as_model(start).folder
        inputs |= {START: as_model(start).stage, DIALOGUES: random_dialogues(profile, seed)}
    if held_out is not None:
        inputs[PAIRS] = held_out
    recipe = settings.load(
        PAPER,
        profile,
        "evaluation",
        KDEvaluation,
        models=(MODEL,),
        folders=(asked.folder,),
        system_turns=(asked.system_turn,),
        hot=hot,
        start=folder,
    )
    build = "zephyr_lab.methods.stages.kd_evaluate:build"
    return Stage("kd_evaluation", build, changed(recipe, changes), seed=seed, inputs=inputs)


# --- parts ------------------------------------------------------------------------------------------------------------


def _distilled(
    name: str,
    build: str,
    kind: type[KDRecipe] | type[OnPolicyKDRecipe],
    profile: str,
    seed: int,
    teacher: Model | Stage | None,
    start: Model | Stage | None,
    data: Stage | None,
    changes: Mapping[str, Any],
) -> Stage:
    learns, teaches = as_model(start or base(profile)), as_model(teacher or same_size_teacher(profile))
    recipe = settings.load(PAPER, profile, name, kind, start=learns.folder, teacher=teaches.folder)
    return Stage(
        name,
        f"zephyr_lab.methods.{build}",
        changed(recipe, changes),
        seed=seed,
        inputs={
            "student": learns.stage,
            "teacher": teaches.stage,
            "dialogues": data or random_dialogues(profile, seed),
        },
    )


def _data(section: str, build: str, kind: type, profile: str, seed: int, changes: Mapping[str, Any]) -> Stage:
    recipe = changed(settings.load(PAPER, profile, section, kind), changes)
    return Stage(section, f"zephyr_lab.methods.{build}", recipe, seed=seed)


def _teacher(
    profile: str, section: str, build: str, kind: type[DSFTRecipe], start: Model, changes: Mapping[str, Any]
) -> Stage:
    recipe = settings.load(PAPER, profile, section, kind, start=start.folder)
    return Stage(
        section,
        f"zephyr_lab.methods.{build}",
        changed(recipe, changes),
        seed=TEACHER_SEED,
        inputs={"base": start.stage, "dialogues": teacher_dialogues(profile)},
    )


def _mixed(section: str, profile: str, seed: int, changes: Mapping[str, Any]) -> Stage:
    """General and e-commerce rows by the settings of `section`; of the hub, a folder beside the general rows."""
    if profile in HUB_PROFILES:
        recipe = settings.load(PAPER, profile, section, FolderMix, digest=UNREAD)
        recipe = with_digest(changed(recipe, changes))
        build = "zephyr_lab.methods.stages.kd_public_data:build_mix"
        return Stage(section, build, recipe, seed=seed, inputs={"general": scale_dialogues(profile, seed)})
    return _data(section, "stages.kd_data:build_mixed", MixedDialogues, profile, seed, changes)


def _hub_model(profile: str, section: str, changes: Mapping[str, Any]) -> Stage:
    recipe = changed(settings.load(PAPER, profile, section, HubModel), changes)
    return Stage(section, "zephyr_lab.methods.stages.hub_model:build", recipe)


def as_model(model: Model | Stage) -> Model:
    """A stage stands for its final model."""
    return model if isinstance(model, Model) else Model(model)


Recipe = TypeVar("Recipe", FolderMix, FolderPairs)
UNREAD = ""  # the digest of a recipe whose folder was not looked at yet


def with_digest(recipe: Recipe) -> Recipe:
    """`recipe` with the digest of its folder as it is now; "absent" where there is none, and its build will say so."""
    return dataclasses.replace(recipe, digest=_digest(recipe.folder))


def _digest(name: str) -> str:
    data = paths.data_dir()
    folder = None if data is None else data / name
    if folder is None or not folder.is_dir():
        return "absent"
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256("\n".join(_line(path, folder) for path in found).encode()).hexdigest()


def _line(path: Path, folder: Path) -> str:
    return f"{path.relative_to(folder).as_posix()} {files.sha256(path)}"
