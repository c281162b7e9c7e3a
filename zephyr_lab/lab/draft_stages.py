"""Aligning drafts as stages of a profile: targets, data, the draft of the chat target, its adaptations, their scores.

Settings come from papers/eda/settings.toml. A target is the chat model, a specialist fine-tuned from it, the dDPO
model, or a model of the hub where the profile names one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from zephyr_lab.core import paths, session, settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import zephyr_stages
from zephyr_lab.lab.base import HUB_PROFILES
from zephyr_lab.lab.zephyr_stages import Model, changed
from zephyr_lab.methods.recipes.draft import DraftRecipe
from zephyr_lab.methods.recipes.draft_data import (
    CHAT,
    HubQuestions,
    Regeneration,
    RowScores,
    Selection,
    SpecialtyDialogues,
)
from zephyr_lab.methods.recipes.draft_scores import PROMPTS, TARGET, DraftScores
from zephyr_lab.methods.recipes.hub_model import HubModel
from zephyr_lab.methods.recipes.sft import DSFTRecipe

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")
PAPER = "eda"
MATH, CODE, CLINIC = "math", "code", "clinic"
SPECIALTIES = (MATH, CODE, CLINIC)
DPO = "dDPO"  # aligned with human preferences instead of fine-tuned to a domain
STAGE_1 = "stage 1"  # the arm of the draft that the chat target is given
ORIGINAL, REGENERATED = "original", "regenerated"


@dataclass(frozen=True)
class Selected:
    """A share of the regenerated rows, by a rule of `recipes.draft_data.RULES`."""

    rule: str
    share: float

    def __str__(self) -> str:
        return f"{self.rule} {100 * self.share:g} %"


@dataclass(frozen=True)
class Arm:
    """One adaptation: what it trains (of `models.draft_shape.PARTS`), its start, its data, and LoRA's rank."""

    name: str
    part: str
    start: str
    data: str | Selected
    rank: int = 0


@dataclass(frozen=True)
class Draft:
    """A trained draft: its stage, and the folder inside it: an arm's name, or "<arm>/steps/<n>"."""

    stage: Stage
    folder: str


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """Models of the hub that serve as targets, by name; "" where the target is trained here. revision: of all."""

    chat: str
    math: str
    code: str
    clinic: str
    revision: str


def remembered(make: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
    """`make`, whose result is kept as long as the settings files are as they were.

    Arms share targets and data many times over, and each would read the settings anew. The files are registered with
    the running notebook at every call.
    """

    @cache
    def kept(stamps: tuple[tuple[str, int, int], ...], *arguments: Any, **named: Any) -> Made:
        return make(*arguments, **named)

    @wraps(make)
    def made(*arguments: Arguments.args, **named: Arguments.kwargs) -> Made:
        return kept(_settings_stamps(), *arguments, **named)

    return made


def _settings_stamps() -> tuple[tuple[str, int, int], ...]:
    """Place, time and size of the settings files that stages here are made of."""
    stamps = []
    for paper in (PAPER, "zephyr"):
        path = paths.papers_dir() / paper / "settings.toml"
        session.read_file(path, name=f"papers/{paper}/settings.toml")
        stat = path.stat()
        stamps.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(stamps)


@remembered
def target(profile: str, seed: int, name: str) -> Model:
    """The target `name`: "chat", a specialty, or "dDPO". Raises ValueError for any other."""
    if name == DPO:
        return Model(zephyr_stages.ddpo(profile, seed))
    if name not in (CHAT, *SPECIALTIES):
        raise ValueError(f"no target named {name!r}; known: {', '.join((CHAT, *SPECIALTIES, DPO))}")
    named = settings.load(PAPER, profile, "targets", TargetSettings)
    if model := getattr(named, name):
        return Model(
            Stage("target", "zephyr_lab.methods.stages.hub_model:build", HubModel(model=model, revision=named.revision))
        )
    if name == CHAT:
        return Model(zephyr_stages.dsft(profile, seed))
    start = target(profile, seed, CHAT)
    tuning = settings.load(PAPER, profile, "tuning", DSFTRecipe, start=start.folder)
    inputs = {"base": start.stage, "dialogues": _dialogues(profile, seed, name, "tuning_data")}
    return Model(Stage("target", "zephyr_lab.methods.stages.sft:build", tuning, seed=seed, inputs=inputs))


def targets(profile: str) -> tuple[str, ...]:
    """The tuned targets of a profile: three specialists, and the dDPO model where it stems from the chat target.

    A chat target of the hub has another vocabulary than Zephyr's models, so no draft of it fits them.
    """
    trained_here = not settings.load(PAPER, profile, "targets", TargetSettings).chat
    return (*SPECIALTIES, DPO) if trained_here else SPECIALTIES


@remembered
def pool(profile: str, seed: int, name: str) -> Stage:
    """The prompts of a target's domain, mixed with general ones, with the answers of a data set; and held-out prompts.

    The dDPO model answers what the chat model answers.
    """
    return _dialogues(profile, seed, CHAT if name == DPO else name, "pool")


@remembered
def original(profile: str, seed: int, name: str) -> Stage:
    """Dialogues with a data set's answers: the pool's; in hub profiles general conversations, as in the paper.

    For the chat target, and so for the draft that is made for it: the dialogues of dSFT.
    """
    if profile in HUB_PROFILES:
        return pool(profile, seed, CHAT)
    return zephyr_stages.dialogues(profile, seed) if name == CHAT else pool(profile, seed, name)


@remembered
def regenerated(profile: str, seed: int, name: str) -> Stage:
    """The pool answered by the target itself."""
    model = target(profile, seed, name)
    recipe = settings.load(PAPER, profile, "regeneration", Regeneration, folder=model.folder)
    inputs = {TARGET: model.stage, "pool": pool(profile, seed, name)}
    return Stage("regenerated", "zephyr_lab.methods.stages.draft_regenerate:build", recipe, seed=seed, inputs=inputs)


@remembered
def row_scores(profile: str, seed: int, name: str) -> Stage:
    """What the regenerated rows of a target can be selected by."""
    base, tuned = target(profile, seed, CHAT), target(profile, seed, name)
    folders = {"base_folder": base.folder, "target_folder": tuned.folder, "draft_folder": STAGE_1}
    recipe = settings.load(PAPER, profile, "row_scores", RowScores, **folders)
    inputs = {
        "base": base.stage,
        TARGET: tuned.stage,
        "draft": stage_1(profile, seed).stage,
        "data": regenerated(profile, seed, name),
    }
    return Stage("row_scores", "zephyr_lab.methods.stages.draft_row_scores:build", recipe, inputs=inputs)


@remembered
def selected(profile: str, seed: int, name: str, which: Selected) -> Stage:
    """The regenerated rows of a target that `which` keeps."""
    inputs = {"data": regenerated(profile, seed, name), "scores": row_scores(profile, seed, name)}
    recipe = Selection(rule=which.rule, share=which.share)
    return Stage("selected", "zephyr_lab.methods.stages.draft_selection:build", recipe, seed=seed, inputs=inputs)


def data(profile: str, seed: int, name: str, which: str | Selected) -> Stage:
    """The rows that an arm learns from."""
    if isinstance(which, Selected):
        return selected(profile, seed, name, which)
    return {ORIGINAL: original, REGENERATED: regenerated}[which](profile, seed, name)


@remembered
def stage_1(profile: str, seed: int) -> Draft:
    """The draft made for the chat target, on a data set's answers with the chat target's features."""
    arm = Arm(STAGE_1, "all", "new", ORIGINAL)
    return Draft(_trained(profile, seed, CHAT, [arm], section="stage_1", draft=None), STAGE_1)


def adapted(profile: str, seed: int, name: str, arms: Sequence[Arm], **changes: Any) -> dict[str, Draft]:
    """The draft of the chat target adapted to the target `name` in several arms, by one worker; `changes`: fields of
    the recipe (`DraftRecipe`)."""
    stage = _trained(profile, seed, name, arms, section="stage_2", draft=stage_1(profile, seed), **changes)
    return {arm.name: Draft(stage, arm.name) for arm in arms}


def scores(profile: str, seed: int, name: str, drafts: Mapping[str, Draft], **changes: Any) -> Stage:
    """Acceptance lengths of `drafts` against the target `name` on its held-out prompts.

    `changes`: fields of the recipe (`DraftScores`), "prompts_of" (another target's prompts) among them.
    """
    asked = changes.pop("prompts_of", name)
    model = target(profile, seed, name)
    roles = {id(draft.stage): draft.stage for draft in drafts.values()}
    by_stage = {key: f"drafts {place}" for place, key in enumerate(roles)}
    recipe = settings.load(
        PAPER,
        profile,
        "scores",
        DraftScores,
        drafts=tuple(drafts),
        inputs=tuple(by_stage[id(draft.stage)] for draft in drafts.values()),
        folders=tuple(draft.folder for draft in drafts.values()),
        target_folder=model.folder,
        split="test",
        system_turn=model.system_turn,
    )
    inputs = {by_stage[key]: stage for key, stage in roles.items()}
    inputs |= {TARGET: model.stage, PROMPTS: pool(profile, seed, asked)}
    build = "zephyr_lab.methods.stages.draft_scores:build"
    return Stage("draft_scores", build, changed(recipe, changes), seed=seed, inputs=inputs)


def _trained(
    profile: str, seed: int, name: str, arms: Sequence[Arm], *, section: str, draft: Draft | None, **changes: Any
) -> Stage:
    model = target(profile, seed, name)
    kinds = list(dict.fromkeys(arm.data for arm in arms))
    rows = {kind: f"data {place}" for place, kind in enumerate(kinds)}
    recipe = settings.load(
        PAPER,
        profile,
        section,
        DraftRecipe,
        arms=tuple(arm.name for arm in arms),
        parts=tuple(arm.part for arm in arms),
        ranks=tuple(arm.rank for arm in arms),
        starts=tuple(arm.start for arm in arms),
        data=tuple(rows[arm.data] for arm in arms),
        target_folder=model.folder,
        draft_folder=draft.folder if draft else "",
        system_turn=model.system_turn,
    )
    inputs = {TARGET: model.stage, **{role: data(profile, seed, name, kind) for kind, role in rows.items()}}
    if draft:
        inputs["draft"] = draft.stage
    build = "zephyr_lab.methods.stages.draft:build"
    return Stage("drafts", build, changed(recipe, changes), seed=seed, inputs=inputs)


def _dialogues(profile: str, seed: int, name: str, section: str) -> Stage:
    """Dialogues of a specialty by the table `section`; in hub profiles a table for each target, `section`_`name`."""
    if profile in HUB_PROFILES:
        recipe = settings.load(PAPER, profile, f"{section}_{name}", HubQuestions)
        return Stage(section, "zephyr_lab.methods.stages.draft_hub_data:build", recipe, seed=seed)
    drawn = settings.load(PAPER, profile, section, SpecialtyDialogues, specialty=name)
    return Stage(section, "zephyr_lab.methods.stages.draft_data:build_dialogues", drawn, seed=seed)
