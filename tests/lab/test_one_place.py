"""One place a value: what settings.toml says is what a stage carries, field by field, and what its key depends on.

Each field of each table is changed at profile tiny. Stages whose recipes are read from the table have to take the value
and another key; nothing in code may stand before it.
"""

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from functools import partial

import pytest

import kd_arms
from zephyr_lab.core import paths, settings
from zephyr_lab.core.profiles import GROUPS, PROFILES, group_of
from zephyr_lab.engine import stages
from zephyr_lab.lab import Lab, zephyr_stages
from zephyr_lab.lab.eda import stages as draft_stages
from zephyr_lab.lab.eda.laboratory import CloseLook, DraftArms
from zephyr_lab.lab.eda.stages import STAGE_1
from zephyr_lab.lab.kd_dae import stages as kd_stages
from zephyr_lab.lab.overview import skills
from zephyr_lab.lab.sizes import (
    AblationArms,
    AlignmentArms,
    Filtering,
    PreferenceGrids,
    PreferencePairs,
    RewardStudy,
    StepArms,
    TeacherGrids,
    WorldTour,
)
from zephyr_lab.lab.teaching import kv_bytes, rlhf_stages, sweeps, teaching_lab
from zephyr_lab.lab.teaching.rlhf_stages import Scene
from zephyr_lab.lab.zephyr_stages import Model
from zephyr_lab.methods.recipes.draft_data import CHAT, SPECIALTIES
from zephyr_lab.teaching import toy_settings

PAPERS = ("zephyr", "kd_dae", "eda", "teaching", "overview")
START = Model(zephyr_stages.base_stage("tiny"))
SEED = 0
MATH = SPECIALTIES[0]


def of(function, *arguments, **named):
    """`function` for a profile and the seed."""
    return lambda profile: function(profile, SEED, *arguments, **named)


def teacher(function):
    return lambda profile: function(profile)


def read(paper, table, cls):
    """Settings that no recipe holds: arms of a study, grids of a sweep."""
    return lambda profile: settings.load(paper, profile, table, cls)


def math_target(profile):
    return draft_stages.target(profile, SEED, MATH)


def regenerated(profile):
    return draft_stages.regenerated(
        profile, SEED, target=math_target(profile), data=draft_stages.pool(profile, SEED, MATH)
    )


def stage_1(profile):
    lab = Lab("eda", profile, 1)
    return lab.draft(lab.target(CHAT), lab.original(CHAT)).of(SEED)


def row_scores(profile):
    models = {"base": draft_stages.target(profile, SEED, CHAT), "target": math_target(profile)}
    return draft_stages.row_scores(profile, data=regenerated(profile), **models, draft=stage_1(profile))


def drafts(profile):
    lab = Lab("eda", profile, 1)
    draft = lab.draft(lab.target(CHAT), lab.original(CHAT))
    arms = lab.adapt(draft, lab.target(MATH), {"as it is": lab.part("none", lab.original(MATH))})
    return arms["as it is"].stage(SEED)


def beside_math(measure, **changes):
    """A stage that measures the chat target's draft beside the math target."""

    def made(profile, **more):
        arms, asked = {STAGE_1: stage_1(profile)}, draft_stages.pool(profile, SEED, MATH)
        return measure(profile, SEED, arms, target=math_target(profile), asked=asked, **changes, **more)

    return made


def looped(profile):
    close = settings.load("eda", profile, "loop", CloseLook)
    return beside_math(draft_stages.scores)(profile, **vars(close))


def simpo(profile):
    lab = Lab("teaching", profile, 1)
    return lab.simpo(lab.sft(lab.base(), lab.dialogues()), lab.pairs()).stage(SEED)


def scene(profile, **more):
    return Scene(begun=rlhf_stages.start(profile, SEED), prompts=rlhf_stages.pairs(profile, SEED), **more)


def on_pairs(method):
    """A stage that learns from the pairs."""
    return lambda profile: method(
        profile, SEED, begun=rlhf_stages.start(profile, SEED), data=rlhf_stages.pairs(profile, SEED)
    )


def rloo(profile):
    return rlhf_stages.policy_gradient(profile, SEED, scene(profile))


def ppo(profile):
    return rlhf_stages.ppo(profile, SEED, scene(profile, reward_model=on_pairs(rlhf_stages.reward)(profile)))


def online_dpo(profile):
    return rlhf_stages.online_dpo(profile, SEED, scene(profile))


def frontier(profile, **which):
    return rlhf_stages.frontier(profile, SEED, {"start": rlhf_stages.start(profile, SEED)}, **which)


def best_of_n(profile):
    begun, reward = rlhf_stages.start(profile, SEED), on_pairs(rlhf_stages.reward)(profile)
    return rlhf_stages.best_of_n(profile, SEED, begun=begun, reward_model=reward)


# What is read from each table of a profile of the world: a stage, or settings of a study.
TINY = {
    ("zephyr", "base"): of(zephyr_stages.base_stage),
    ("zephyr", "probe"): of(skills.probe_stage),
    ("zephyr", "dialogues"): of(zephyr_stages.dialogues),
    ("zephyr", "dsft"): of(zephyr_stages.dsft),
    ("zephyr", "preferences"): of(zephyr_stages.pairs),
    ("zephyr", "pairs"): of(zephyr_stages.pairs),
    ("zephyr", "close_pairs"): of(zephyr_stages.pairs, table="close_pairs"),
    ("zephyr", "ddpo"): of(zephyr_stages.ddpo),
    ("zephyr", "evaluation"): of(zephyr_stages.evaluation, START),
    ("zephyr", "steps"): read("zephyr", "steps", StepArms),
    ("zephyr", "regimes"): read("zephyr", "regimes", PreferenceGrids),
    ("zephyr", "choices"): of(zephyr_stages.multiple_choice, START),
    ("kd_dae", "random_dialogues"): of(kd_stages.random_dialogues),
    ("kd_dae", "qa_dialogues"): of(kd_stages.qa_dialogues),
    ("kd_dae", "scale_dialogues"): of(kd_stages.scale_dialogues),
    ("kd_dae", "own_answers"): of(kd_arms.own_answers),
    ("kd_dae", "mixed_dialogues"): of(kd_stages.mixed_dialogues),
    ("kd_dae", "teacher_dialogues"): teacher(kd_stages.teacher_dialogues),
    ("kd_dae", "same_size_teacher"): teacher(kd_stages.same_size_teacher),
    ("kd_dae", "upcycle"): of(kd_arms.upcycled),
    ("kd_dae", "larger_teacher"): teacher(kd_stages.larger_teacher),
    ("kd_dae", "training"): of(kd_arms.sft),
    ("kd_dae", "fine_tuning"): of(kd_arms.sft),
    ("kd_dae", "steps"): of(kd_arms.sft),
    ("kd_dae", "kd_losses"): of(kd_arms.kd),
    ("kd_dae", "domain_steps"): of(kd_arms.dae),
    ("kd_dae", "expert_dialogues"): teacher(kd_stages.expert_dialogues),
    ("kd_dae", "expert_sft"): teacher(kd_stages.expert_sft),
    ("kd_dae", "expert_pairs"): teacher(kd_stages.expert_pairs),
    ("kd_dae", "expert_ddpo"): teacher(kd_stages.domain_expert),
    ("kd_dae", "sft"): of(kd_arms.sft),
    ("kd_dae", "kd"): of(kd_arms.kd),
    ("kd_dae", "on_policy_kd"): of(kd_arms.kd, make=kd_stages.on_policy_kd),
    ("kd_dae", "scale_kd"): of(kd_arms.scale_kd),
    ("kd_dae", "merge"): of(kd_arms.merged),
    ("kd_dae", "dae"): of(kd_arms.dae),
    ("kd_dae", "tuned"): of(kd_arms.tuned),
    ("kd_dae", "evaluation"): of(kd_stages.evaluation, START),
    ("kd_dae", "ablation"): read("kd_dae", "ablation", AblationArms),
    ("kd_dae", "alignment"): read("kd_dae", "alignment", AlignmentArms),
    ("kd_dae", "regimes"): read("kd_dae", "regimes", TeacherGrids),
    ("eda", "targets"): read("eda", "targets", draft_stages.TargetSettings),
    ("eda", "tuning_data"): lambda profile: math_target(profile).stage.inputs["dialogues"],
    ("eda", "tuning"): lambda profile: math_target(profile).stage,
    ("eda", "pool"): of(draft_stages.pool, MATH),
    ("eda", "regeneration"): regenerated,
    ("eda", "row_scores"): row_scores,
    ("eda", "draft"): lambda profile: stage_1(profile).stage,
    ("eda", "stage_1"): lambda profile: stage_1(profile).stage,
    ("eda", "stage_2"): drafts,
    ("eda", "arms"): read("eda", "arms", DraftArms),
    ("eda", "scores"): beside_math(draft_stages.scores),
    ("eda", "loop"): looped,
    ("eda", "speed"): beside_math(draft_stages.timed),
    ("eda", "lossless"): beside_math(draft_stages.lossless),
    ("teaching", "toy"): read("teaching", "toy", toy_settings.ToySize),
    ("teaching", "knobs"): read("teaching", "knobs", toy_settings.Knobs),
    ("teaching", "runs"): read("teaching", "runs", toy_settings.Runs),
    ("teaching", "family"): read("teaching", "family", toy_settings.Trials),
    ("teaching", "poor_pairs"): of(rlhf_stages.pairs, table="poor_pairs"),
    ("teaching", "judge"): online_dpo,
    ("teaching", "reward"): on_pairs(rlhf_stages.reward),
    ("teaching", "rollouts"): rloo,
    ("teaching", "ppo"): ppo,
    ("teaching", "tuned"): rlhf_stages.tuned,
    ("teaching", "measure"): frontier,
    ("teaching", "frontier"): frontier,
    ("teaching", "validation"): partial(frontier, validation=True),
    ("teaching", "best_of_n"): best_of_n,
    ("teaching", "sweep"): read("teaching", "sweep", sweeps.Grids),
    ("teaching", "reward_study"): read("teaching", "reward_study", RewardStudy),
    ("teaching", "family_world"): simpo,
    ("teaching", "family_terms"): read("teaching", "family_terms", teaching_lab.FamilyTerms),
    ("teaching", "family_tuned"): read("teaching", "family_tuned", teaching_lab.FamilyTuned),
    ("teaching", "family_sweep"): read("teaching", "family_sweep", sweeps.FamilyGrids),
    ("teaching", "kv_cache"): kv_bytes.stage,
    ("teaching", "sft"): read("teaching", "sft", rlhf_stages.SFTSettings),
    ("overview", "world_tour"): read("overview", "world_tour", WorldTour),
    ("overview", "filtering"): read("overview", "filtering", Filtering),
    ("overview", "preference_pairs"): read("overview", "preference_pairs", PreferencePairs),
}
# Of the hub: other data, and teachers that are not trained here.
HUB = {
    ("kd_dae", "expert_base"): lambda profile: kd_stages.expert_sft(profile).inputs["base"],
    ("teaching", "pairs"): of(rlhf_stages.pairs),
    **{
        ("eda", f"{table}_{name}"): of(draft_stages.pool, name)
        for name in (CHAT, *SPECIALTIES)
        for table in ("questions", "pool")
    },
    ("eda", "questions"): of(draft_stages.pool, CHAT),
}
TRAINED_HERE = [
    ("kd_dae", "teacher_dialogues"), ("kd_dae", "upcycle"), ("eda", "tuning_data"), ("eda", "tuning"), ("eda", "pool"),
]  # fmt: skip
GPU = {
    ("eda", "tuning"): TINY["eda", "tuning"],
    **{
        ("eda", f"tuning_data_{name}"): lambda profile, name=name: draft_stages.target(
            profile, SEED, name
        ).stage.inputs["dialogues"]
        for name in SPECIALTIES
    },
}
# Fields that their recipes allow one value alone beside the others of the table.
ONE_VALUE = {
    ("kd_dae", "on_policy_kd", "packed"), ("kd_dae", "on_policy_kd", "tokens"),
    ("eda", "draft", "kind"), ("eda", "draft", "hidden"), ("eda", "draft", "layers"),
    ("eda", "scores", "timed"),
    *(("eda", table, f"tree_{name}") for table in ("scores", "speed") for name in ("top", "depth", "nodes")),
}  # fmt: skip
WORDS = (
    "large", "cpu", "cuda", "linear", "cosine", "adamw", "muon", "clean", "overall_score", "worst", "set_aside", "keep",
    "lengths", "random", "reverse", "forward", "answers", "tokens", "sequences", "padded", "predicted", "input",
    "target", "each_step", "bfloat16", "mean", "hidden", "general",
)  # fmt: skip


def makers(profile):
    """What each table of a profile makes, by paper and table."""
    if group_of(profile) == "world":
        return TINY
    made = {key: make for key, make in TINY.items() if key not in TRAINED_HERE} | HUB
    return made | GPU if profile == "gpu" else made


def tables_of(paper, profile):
    """The tables of a profile with their merged values."""
    tables = tomllib.loads((paths.papers_dir() / paper / "settings.toml").read_text(encoding="utf-8"))
    scopes = (tables, tables.get(group_of(profile), {}), tables.get(profile, {}))
    names = {name for scope in scopes for name in scope} - {*GROUPS, *PROFILES, settings.ALONE}
    return {name: {k: v for scope in scopes for k, v in scope.get(name, {}).items()} for name in sorted(names)}


def other_values(value) -> Iterator:
    """Values beside `value` that a recipe might allow."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (one for one in (value + 1, 2 * value, value // 2, value - 1, value + 8, value - 8) if one != value)
    elif isinstance(value, float):
        yield from (value / 2 if value else 0.25, value + 0.25)
    elif isinstance(value, str):
        yield from (word for word in WORDS if word != value)
    else:
        first = value[0] if value else 0
        changed = (
            ["truecase"] if not value else [],
            value[:-1],
            value[::-1],
            [next(other_values(first)), *value[1:]],
            [*value, *value[-1:]],
        )
        yield from (one for one in changed if one != value)


@pytest.fixture
def say(monkeypatch):
    """Makes the settings of a paper say something else in a table of tiny, and what they said in all others."""
    read_tables, told = settings._tables, {}

    def tables(path):
        found = read_tables(path)
        paper, table, values = told.get("value", (None, "", {}))
        if path.parent.name != paper:
            return found
        own = found.get("tiny", {})
        return {**found, "tiny": {**own, table: {**own.get(table, {}), **values}}}

    def said(paper, table, values):
        told["value"] = (paper, table, values)

    monkeypatch.setattr(settings, "_tables", tables)
    return said


@pytest.mark.parametrize("profile", PROFILES)
def test_every_table_of_every_profile_is_read(profile, monkeypatch):
    asked = set()
    load = settings.load

    def recording(paper, profile, sections, cls, /, **fields):
        asked.update((paper, name) for name in ((sections,) if isinstance(sections, str) else sections))
        return load(paper, profile, sections, cls, **fields)

    monkeypatch.setattr(settings, "load", recording)
    for make in makers(profile).values():
        make(profile)
    there = {(paper, table) for paper in PAPERS for table in tables_of(paper, profile)}
    assert there == asked


@pytest.mark.parametrize("paper", PAPERS)
def test_no_profile_repeats_what_it_inherits(paper):
    tables = tomllib.loads((paths.papers_dir() / paper / "settings.toml").read_text(encoding="utf-8"))
    repeated = [
        f"[{profile}.{name}] {key}"
        for profile in PROFILES
        for name, own in tables.get(profile, {}).items()
        for key, value in own.items()
        if repr({**tables.get(name, {}), **tables.get(group_of(profile), {}).get(name, {})}.get(key)) == repr(value)
    ]
    assert not repeated


@pytest.mark.parametrize("paper", PAPERS)
def test_each_default_has_its_reason(paper):
    text = (paths.papers_dir() / paper / "settings.toml").read_text(encoding="utf-8")
    profile, above, without = False, "", []
    for line in text.splitlines():
        if line.startswith("["):
            profile = line.startswith(tuple(f"[{name}." for name in PROFILES))
        found = re.match(r"(\w+) = ", line)
        if found and found[1] != settings.ALONE and not profile:
            without += [line] * ("  # " not in line and not above.startswith(f"# {found[1]}: "))
        above = line
    assert not without


@pytest.mark.parametrize("paper", PAPERS)
def test_what_the_file_says_is_what_a_stage_carries_and_its_key_tells(paper, say):
    known = stages.Resolution()
    shadowed, refused = [], set()
    for table, values in tables_of(paper, "tiny").items():
        say(paper, table, {})
        before = identity(TINY[paper, table]("tiny"), known)
        for key, value in values.items():
            for other in other_values(value):
                say(paper, table, {key: other})
                try:
                    made = TINY[paper, table]("tiny")
                except (ValueError, TypeError):  # not a value of this field
                    continue
                if not holds(made, key, other) or identity(made, known) == before:
                    shadowed.append(f"[{table}] {key}: {value!r} -> {other!r}")
                break
            else:
                refused.add((paper, table, key))
    assert not shadowed
    assert refused == {one for one in ONE_VALUE if one[0] == paper}


def holds(made, key, value):
    """Whether the recipe of a stage, or the settings of a study, has `value`."""
    recipe = made.recipe if isinstance(made, stages.Stage) else made
    carried = getattr(recipe, key)
    return carried == (tuple(value) if isinstance(value, list) else value)


def identity(made, known):
    """The key of a stage, or the settings of a study."""
    if not isinstance(made, stages.Stage):
        return made
    KEPT.append(made)  # `known` tells stages apart by their place in memory
    return known.add(made)


KEPT = []


def test_a_value_that_code_overwrites_would_be_caught(say):
    before = zephyr_stages.dsft("tiny", 0, warmup=0.1)
    say("zephyr", "dsft", {"warmup": 0.05})
    after = zephyr_stages.dsft("tiny", 0, warmup=0.1)
    assert not holds(after, "warmup", 0.05) and stages.key(before) == stages.key(after)


def test_beta_and_epochs_of_a_saved_file_are_trained(tmp_path, monkeypatch):
    (tmp_path / "papers" / "zephyr").mkdir(parents=True)
    text = (paths.papers_dir() / "zephyr" / "settings.toml").read_text(encoding="utf-8")
    changed = text.replace("[tiny.ddpo]\n", "[tiny.ddpo]\nbeta = 0.7\nepochs = 99\nwarmup = 0.3\n")
    assert changed != text
    (tmp_path / "papers" / "zephyr" / "settings.toml").write_text(changed, encoding="utf-8")
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    recipe = zephyr_stages.ddpo("tiny", 0).recipe
    assert (recipe.beta, recipe.epochs, recipe.warmup) == (0.7, 99, 0.3)
    card = zephyr_stages.ddpo("tiny", 0, setting="beta card").recipe  # as the paper but for its system turn
    assert card == dataclasses.replace(recipe, system_turn=True)
