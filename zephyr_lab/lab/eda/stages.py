"""Aligning drafts (EDA) as stages: targets, data, drafts, acceptance lengths, the paper's recipes with named changes.

Settings come from papers/eda/settings.toml. A target is the chat model, a specialist fine-tuned from it, the dDPO
model, or a model of the hub where the profile names one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from zephyr_lab.core import settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import zephyr_stages
from zephyr_lab.lab.arms import Rows
from zephyr_lab.lab.zephyr_stages import HUB_PROFILES, Model, stage
from zephyr_lab.methods.recipes.draft import DraftRecipe
from zephyr_lab.methods.recipes.draft_data import (
    CHAT,
    SPECIALTIES,
    HubQuestions,
    OwnScores,
    Regeneration,
    RowScores,
    Selection,
    SpecialtyDialogues,
)
from zephyr_lab.methods.recipes.draft_scores import PROMPTS, TARGET, DraftLossless, DraftScores
from zephyr_lab.methods.recipes.pretrain import HubModel
from zephyr_lab.methods.recipes.training import DSFTRecipe

PAPER = "eda"
DPO = "dDPO"  # aligned with human preferences instead of fine-tuned to a domain
STAGE_1 = "stage 1"  # the name of a draft that is made for a target, not adapted to it
_stage = partial(stage, PAPER)


@dataclass(frozen=True)
class Part:
    """One way to train a draft: what trains (`models.draft_shape.PARTS`), on which dialogues, from which start, and
    LoRA's rank (0 for other parts)."""

    part: str
    data: Rows
    start: str
    rank: int = 0


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """Models of the hub that serve as targets, by name; "" where the target is trained here. revision: of all."""

    chat: str
    math: str
    code: str
    clinic: str
    revision: str


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """How time is measured, where it differs from [scores]: fields of `DraftScores`; see there."""

    loop_prompts: int
    loop_length: int
    extra_layers: int
    samples: int
    tree_top: int
    tree_depth: int
    tree_nodes: int
    rows_at_once: int


def target(profile: str, seed: int, name: str) -> Model:
    """The target `name`: "chat", a specialty, or "dDPO". Raises ValueError for any other."""
    if name == DPO:
        return Model(zephyr_stages.ddpo(profile, seed))
    if name not in (CHAT, *SPECIALTIES):
        raise ValueError(f"no target named {name!r}; known: {', '.join((CHAT, *SPECIALTIES, DPO))}")
    named = settings.load(PAPER, profile, "targets", TargetSettings)
    if model := getattr(named, name):
        recipe = HubModel(model=model, revision=named.revision)
        return Model(Stage("target", f"{zephyr_stages.BUILDS}.pretrain:build_hub_model", recipe))
    if name == CHAT:
        return Model(zephyr_stages.dsft(profile, seed))
    start = target(profile, seed, CHAT)
    inputs = {"base": start.stage, "dialogues": _dialogues(profile, seed, name, "tuning_data")}
    step = ("tuning", "sft:build", DSFTRecipe)
    return Model(_stage(step, profile, seed, {}, inputs, name="target", start=start.folder))


def targets(profile: str) -> tuple[str, ...]:
    """The tuned targets of a profile: three specialists, and the dDPO model where it stems from the chat target.

    A chat target of the hub has another vocabulary than Zephyr's models, so no draft of it fits them.
    """
    trained_here = not settings.load(PAPER, profile, "targets", TargetSettings).chat
    return (*SPECIALTIES, DPO) if trained_here else SPECIALTIES


def pool(profile: str, seed: int, name: str) -> Stage:
    """The prompts of a target's domain, mixed with general ones, with the answers of a data set; and held-out prompts.

    The dDPO model answers what the chat model answers.
    """
    return _dialogues(profile, seed, CHAT if name == DPO else name, "pool")


def original(profile: str, seed: int, name: str) -> Stage:
    """Dialogues with a data set's answers: the pool's; in hub profiles general conversations, as in the paper.

    For the chat target, and so for the draft that is made for it: the dialogues of dSFT.
    """
    if profile in HUB_PROFILES:
        return pool(profile, seed, CHAT)
    return zephyr_stages.dialogues(profile, seed) if name == CHAT else pool(profile, seed, name)


def regenerated(profile: str, seed: int, *, target: Model, data: Stage, **changes: Any) -> Stage:
    """The dialogues of `data` answered by the target itself; `changes`: fields of `Regeneration`."""
    step, inputs = ("regeneration", "draft_rows:build_answers", Regeneration), {TARGET: target.stage, "pool": data}
    return _stage(step, profile, seed, changes, inputs, name="regenerated", folder=target.folder)


def row_scores(profile: str, *, data: Stage, **models: Model) -> Stage:
    """What the rows of `data` can be selected by. models: base=, target=, draft=: the shift from the first to the
    second, and the draft's loss beside the second."""
    folders = {f"{role}_folder": model.folder for role, model in models.items()}
    inputs = {**{role: model.stage for role, model in models.items()}, "data": data}
    return _stage(("row_scores", "draft_rows:build_scores", RowScores), profile, 0, {}, inputs, **folders)


def own_scores(scores: Stage, rule: str) -> Stage:
    """`scores` with the values of a rule of one's own, as `engine.own_code.captured` made it, in place of the shift."""
    build = f"{zephyr_stages.BUILDS}.draft_data:build_own_scores"
    return Stage("own_scores", build, OwnScores(rule=rule), inputs={"scores": scores})


def selected(seed: int, *, data: Stage, scores: Stage, rule: str, share: float) -> Stage:
    """A share of the rows of `data`, by a rule of `recipes.draft_data.RULES` on their scores."""
    build = f"{zephyr_stages.BUILDS}.draft_data:build_selection"
    return Stage("selected", build, Selection(rule=rule, share=share), seed, {"data": data, "scores": scores})


def trained(
    profile: str, seed: int, arms: Mapping[str, Part], *, target: Model, draft: Model | None = None, **changes: Any
) -> Stage:
    """`draft` adapted to `target` in several arms by one worker, each in a folder of its name; without a draft, new
    ones made for it. `changes`: fields of `DraftRecipe`."""
    data = {name: arm.data.stage(seed) for name, arm in arms.items()}
    roles = _roles("data", data.values())
    inputs = {TARGET: target.stage, **roles} | ({"draft": draft.stage} if draft else {})
    step = (("draft", "stage_2" if draft else "stage_1"), "draft:build", DraftRecipe)
    return _stage(
        step,
        profile,
        seed,
        changes,
        inputs,
        name="drafts",
        arms=tuple(arms),
        parts=tuple(arm.part for arm in arms.values()),
        ranks=tuple(arm.rank for arm in arms.values()),
        starts=tuple(arm.start for arm in arms.values()),
        data=tuple(_role_of(stage, roles) for stage in data.values()),
        target_folder=target.folder,
        draft_folder=draft.folder if draft else "",
        system_turn=target.system_turn,
    )


def scores(
    profile: str, seed: int, drafts: Mapping[str, Model], *, target: Model, asked: Stage, **changes: Any
) -> Stage:
    """Acceptance lengths of `drafts` beside `target` on the held-out prompts of `asked`.

    `changes`: fields of `DraftScores`, e.g. lengths=(4,).
    """
    roles = _roles("drafts", (draft.stage for draft in drafts.values()))
    return _stage(
        ("scores", "draft_scores:build", DraftScores),
        profile,
        seed,
        changes,
        {**roles, TARGET: target.stage, PROMPTS: asked},
        name="draft_scores",
        drafts=tuple(drafts),
        inputs=tuple(_role_of(draft.stage, roles) for draft in drafts.values()),
        folders=tuple(draft.folder for draft in drafts.values()),
        target_folder=target.folder,
        split="test",
        system_turn=target.system_turn,
    )


def timed(profile: str, seed: int, drafts: Mapping[str, Model], *, target: Model, asked: Stage) -> Stage:
    """As `scores`, on few prompts, with the time that decoding takes with each draft and without."""
    table = settings.load(PAPER, profile, "speed", SpeedSettings)
    changes = {"timed": True, "prompts": table.loop_prompts, **vars(table)}
    return scores(profile, seed, drafts, target=target, asked=asked, **changes)


def lossless(profile: str, seed: int, drafts: Mapping[str, Model], *, target: Model, asked: Stage) -> Stage:
    """What `target` answers with a draft and without, compared; `drafts`: that one, by its name."""
    (draft,) = drafts.values()
    inputs = {TARGET: target.stage, "draft": draft.stage, PROMPTS: asked}
    folders = {"target_folder": target.folder, "draft_folder": draft.folder}
    return _stage(("lossless", "draft_scores:build_lossless", DraftLossless), profile, seed, {}, inputs, **folders)


def _roles(word: str, stages: Iterable[Stage]) -> dict[str, Stage]:
    """Unlike stages by role, "<word> 0" and on, in the order in which they come."""
    unlike: list[Stage] = []
    for one in stages:
        if one not in unlike:
            unlike.append(one)
    return {f"{word} {place}": one for place, one in enumerate(unlike)}


def _role_of(stage: Stage, roles: Mapping[str, Stage]) -> str:
    return next(role for role, one in roles.items() if one == stage)


def _dialogues(profile: str, seed: int, name: str, table: str) -> Stage:
    """Dialogues of a specialty by `table`; in hub profiles a table for each target, `table`_`name`."""
    if profile in HUB_PROFILES:
        tables = ("questions", f"questions_{name}", f"{table}_{name}")
        step = (tables, "draft_data:build_hub", HubQuestions)
        return _stage(step, profile, seed, name=table)
    return _stage((table, "draft_data:build_dialogues", SpecialtyDialogues), profile, seed, specialty=name)
