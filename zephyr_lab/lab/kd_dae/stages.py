"""KD and DAE as stages of a profile: data, teachers, students, each the paper's recipe with named changes.

Recipes come from papers/kd_dae/settings.toml. Teachers and expert belong to a profile alone, as the papers train all
runs from the same ones. `changes` are fields of the recipe named in each docstring; `kd_dae.laboratory` says more of
each. Kothari et al. 2024, arXiv 2406.19112.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from zephyr_lab.core import files, paths
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab.zephyr_stages import BUILDS, HUB_PROFILES, MODEL, Model, Step, base, stage
from zephyr_lab.methods.recipes.data import HubDialogues, WorldDialogues
from zephyr_lab.methods.recipes.evaluate import PAIRS
from zephyr_lab.methods.recipes.kd import (
    DIALOGUES,
    START,
    DAERecipe,
    DoseRecipe,
    KDEvaluation,
    KDRecipe,
    OnPolicyKDRecipe,
    OwnLossKD,
)
from zephyr_lab.methods.recipes.kd_data import (
    DomainPairs,
    FolderMix,
    FolderPairs,
    MixedDialogues,
    OwnAnswers,
    PublicMix,
    QualityDialogues,
)
from zephyr_lab.methods.recipes.mixtures import Merge, Upcycle
from zephyr_lab.methods.recipes.pairs import DDPORecipe
from zephyr_lab.methods.recipes.pretrain import HubModel
from zephyr_lab.methods.recipes.training import DSFTRecipe

PAPER = "kd_dae"
TEACHER_SEED = 0  # of teachers and expert: one of each a profile
# Tables of settings.toml that trainings share.
TRAINED = ("training", "fine_tuning", "steps")
OF_DOMAIN = ("training", "domain_steps")
DISTILLED = ("training", "fine_tuning", "kd_losses")
UNREAD = ""  # the digest of a recipe whose folder was not looked at yet
Changes, Inputs = Mapping[str, Any], Mapping[str, Stage]
_stage = partial(stage, PAPER)

# --- data: each stage holds train.jsonl and test.jsonl ----------------------------------------------------------------

HUB, WORLD = ("hub_data:build_dialogues", HubDialogues), ("world_data:build_dialogues", WorldDialogues)


def random_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """ "R" of Table 2: dialogues as they come, unfiltered. Changes: `WorldDialogues` (`HubDialogues` of the hub)."""
    how = HUB if profile in HUB_PROFILES else WORLD
    return _stage(("random_dialogues", *how), profile, seed, changes)


def qa_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """ "QA" of Table 2 in our reading: the filters, then a judge's threshold; of the hub, without a judge, the filters
    alone. Changes: `QualityDialogues` (`HubDialogues`)."""
    how = HUB if profile in HUB_PROFILES else ("kd_data:build_quality", QualityDialogues)
    return _stage(("qa_dialogues", *how), profile, seed, changes)


def scale_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """The data of KD at scale (3.1.2): more of the world, or the six public sets. Changes: their recipe's fields."""
    how = ("kd_data:build_public", PublicMix) if profile in HUB_PROFILES else WORLD
    return _stage(("scale_dialogues", *how), profile, seed, changes)


def own_answers(profile: str, seed: int, *, teacher: Model, data: Stage, **changes: Any) -> Stage:
    """The questions of `data` answered by `teacher` itself. Changes: `OwnAnswers`."""
    step, inputs = ("own_answers", "own_answers:build", OwnAnswers), {"teacher": teacher.stage, "dialogues": data}
    return _stage(step, profile, seed, changes, inputs, teacher=teacher.folder)


def mixed_dialogues(profile: str, seed: int, **changes: Any) -> Stage:
    """The data of DAE: general and e-commerce rows, each with its flag. Changes: `MixedDialogues`; of the hub
    `FolderMix`, a folder of domain data beside the general rows of `scale_dialogues`."""
    return _mixed("mixed_dialogues", profile, seed, changes)


# --- teachers and expert: one of each a profile -----------------------------------------------------------------------


def teacher_dialogues(profile: str) -> Stage:
    """Clean dialogues that the world's teachers learn from. The hub's teachers need none."""
    return _stage(("teacher_dialogues", *WORLD), profile, TEACHER_SEED)


def same_size_teacher(profile: str, **changes: Any) -> Stage:
    """The base trained on clean dialogues: Mistral-7B-Instruct's place. Changes: `DSFTRecipe`."""
    if profile in HUB_PROFILES:
        return _hub_model("same_size_teacher", profile, changes)
    step, data = ((*TRAINED, "same_size_teacher"), "sft:build", DSFTRecipe), teacher_dialogues(profile)
    return _tuned(step, profile, TEACHER_SEED, start=base(profile), data=data, **changes)


def larger_teacher(profile: str, **changes: Any) -> Stage:
    """A mixture upcycled from the base, trained on the same clean dialogues: Mixtral-Instruct's place. Changes:
    `DoseRecipe`."""
    if profile in HUB_PROFILES:
        return _hub_model("larger_teacher", profile, changes)
    step, data = ((*TRAINED, "larger_teacher"), "kd:build_dose", DoseRecipe), teacher_dialogues(profile)
    start = Model(upcycled(profile, TEACHER_SEED, start=base(profile)))
    return _tuned(step, profile, TEACHER_SEED, start=start, data=data, **changes)


def upcycled(profile: str, seed: int, *, start: Model, **changes: Any) -> Stage:
    """A mixture whose experts are all copies of `start`, not trained. Changes: `Upcycle`."""
    step = ("upcycle", "mixtures:build_upcycle", Upcycle)
    return _stage(step, profile, seed, changes, {"dense": start.stage}, start=start.folder)


def domain_expert(profile: str, **changes: Any) -> Stage:
    """The e-commerce expert: `expert_sft` of the base, then DPO on e-commerce pairs. Changes: `DDPORecipe`."""
    inputs = {"policy": expert_sft(profile), "pairs": expert_pairs(profile)}
    step = (("training", "expert_ddpo"), "dpo:build", DDPORecipe)
    return _stage(step, profile, TEACHER_SEED, changes, inputs, name="expert", start="")


def expert_sft(profile: str) -> Stage:
    """The expert before DPO: its base trained on e-commerce dialogues."""
    start = Model(_hub_model("expert_base", profile)) if profile in HUB_PROFILES else base(profile)
    step, data = ((*TRAINED, "expert_sft"), "sft:build", DSFTRecipe), expert_dialogues(profile)
    return _tuned(step, profile, TEACHER_SEED, start=start, data=data)


def expert_dialogues(profile: str) -> Stage:
    """What the expert learns from: mostly e-commerce dialogues."""
    return _mixed("expert_dialogues", profile, TEACHER_SEED)


def expert_pairs(profile: str) -> Stage:
    """The expert's preference pairs."""
    if profile in HUB_PROFILES:
        return _of_folder(("expert_pairs", "kd_data:build_folder_pairs", FolderPairs), profile, TEACHER_SEED)
    return _stage(("expert_pairs", "kd_data:build_pairs", DomainPairs), profile, TEACHER_SEED)


# --- students ---------------------------------------------------------------------------------------------------------


def _tuned(step: Step, profile: str, seed: int, *, start: Model, data: Stage, **changes: Any) -> Stage:
    """`start` trained on `data` alone."""
    return _stage(step, profile, seed, changes, {"base": start.stage, "dialogues": data}, start=start.folder)


def _distilled(
    step: Step, profile: str, seed: int, *, start: Model, data: Stage, teacher: Model, **changes: Any
) -> Stage:
    """`teacher` distilled into `start` on `data`."""
    inputs = {"student": start.stage, "teacher": teacher.stage, "dialogues": data}
    return _stage(step, profile, seed, changes, inputs, start=start.folder, teacher=teacher.folder)


sft = partial(_tuned, ((*TRAINED, "sft"), "sft:build", DSFTRecipe))  # eq. 1 on answers, as Table 2
tuned = partial(_tuned, ((*OF_DOMAIN, "tuned"), "kd:build_dose", DoseRecipe))  # on DAE's data, flags ignored
on_policy_kd = partial(_distilled, ((*DISTILLED, "on_policy_kd"), "kd:build_on_policy", OnPolicyKDRecipe))
scale_kd = partial(_distilled, ((*DISTILLED, "scale_kd"), "kd:build", KDRecipe))  # 3.1.2


def kd(profile: str, seed: int, *, loss: str | None = None, **given: Any) -> Stage:
    """Distillation by eq. 5. Given: start=, data=, teacher=, and fields of `KDRecipe`.

    loss: another than eq. 2's, as `engine.own_code.captured` made it of a function of `methods.own_kd`'s kind.
    """
    plain = _distilled(((*TRAINED, "kd_losses", "kd"), "kd:build", KDRecipe), profile, seed, **given)
    if loss is None:
        return plain
    return replace(plain, build=f"{BUILDS}.kd:build_own_loss", recipe=OwnLossKD(**asdict(plain.recipe), own_loss=loss))


def merged(
    profile: str, seed: int, *, first: Model, second: Model, prompts: tuple[Stage, Stage] | None = None, **changes: Any
) -> Stage:
    """A mixture of two dense models, not trained. prompts: dialogues of the first and of the second model, which
    router="hidden" needs (random and e-commerce ones by default). Changes: `Merge`."""
    step, inputs = ("merge", "mixtures:build_merge", Merge), {"first": first.stage, "second": second.stage}
    alone = _stage(step, profile, seed, changes, inputs, first=first.folder, second=second.folder)
    if alone.recipe.router != "hidden":
        return alone
    general, domain = prompts or (random_dialogues(profile, seed), expert_dialogues(profile))
    return replace(alone, inputs={**inputs, "first_prompts": general, "second_prompts": domain})


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
    folders = {"start": start.folder, "expert": expert.folder, "general": general_teacher.folder if general else ""}
    return _stage(((*OF_DOMAIN, "dae"), "dae:build", DAERecipe), profile, seed, changes, inputs, **folders)


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
    step, folder = ("evaluation", "kd_evaluate:build", KDEvaluation), start.folder if start else ""
    fields = {**model.asked, "hot": hot, "start": folder}
    return _stage(step, profile, seed, changes, inputs, name="kd_evaluation", **fields)


# --- parts ------------------------------------------------------------------------------------------------------------


def _mixed(section: str, profile: str, seed: int, changes: Changes | None = None) -> Stage:
    """General and e-commerce rows by the settings of `section`; of the hub, a folder beside the general rows."""
    if profile in HUB_PROFILES:
        inputs = {"general": scale_dialogues(profile, seed)}
        return _of_folder((section, "kd_data:build_folder_mix", FolderMix), profile, seed, changes, inputs)
    return _stage((section, "kd_data:build_mixed", MixedDialogues), profile, seed, changes)


def _hub_model(section: str, profile: str, changes: Changes | None = None) -> Stage:
    return _stage((section, "pretrain:build_hub_model", HubModel), profile, 0, changes)


def _of_folder(
    step: Step, profile: str, seed: int, changes: Changes | None = None, inputs: Inputs | None = None
) -> Stage:
    """A stage of a user's folder below the data folder; its recipe knows the folder's contents as they are now."""
    unread = _stage(step, profile, seed, changes, inputs, digest=UNREAD)
    return replace(unread, recipe=replace(unread.recipe, digest=digest_of(unread.recipe.folder)))


def digest_of(folder: str) -> str:
    """Digest of the files of a folder below the data folder; "absent" where there is none, as its build will say."""
    data = paths.data_dir()
    if data is None or not (data / folder).is_dir():
        return "absent"
    listed = sorted(path for path in (data / folder).rglob("*") if path.is_file())
    lines = (f"{path.relative_to(data / folder).as_posix()} {files.sha256(path)}" for path in listed)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
