"""Stages of KD and DAE: every profile states the published recipe at its size, and arms differ by what they name."""

import dataclasses

import pytest
import yaml

import kd_arms
from zephyr_lab.core import paths
from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.engine import stages
from zephyr_lab.lab.kd_dae import stages as kd_stages
from zephyr_lab.lab.zephyr_stages import HUB_PROFILES, Model, base
from zephyr_lab.methods.recipes.kd import DIALOGUES, START
from zephyr_lab.methods.recipes.pretrain import HubModel


def published(recipe):
    read = yaml.safe_load((paths.papers_dir() / "kd_dae" / "published.yaml").read_text())
    return next(one["settings"] for one in read["recipes"] if one["id"] == recipe)


def arms(profile):
    own = kd_arms.sft(profile, data=kd_arms.own_answers(profile))
    return {
        "sft": kd_arms.sft(profile),
        "qa": kd_arms.sft(profile, data=kd_stages.qa_dialogues(profile, 0)),
        "kd": kd_arms.kd(profile),
        "larger": kd_arms.kd(profile, teacher=Model(kd_stages.larger_teacher(profile))),
        "on_policy": kd_arms.kd(profile, make=kd_stages.on_policy_kd, start=Model(kd_arms.sft(profile))),
        "own": own,
        "scale": kd_arms.scale_kd(profile, start=Model(kd_arms.merged(profile))),
        "hidden": kd_arms.merged(profile, router="hidden"),
        "dae": kd_arms.dae(profile, start=Model(kd_arms.kd(profile))),
        "tuned": kd_arms.tuned(profile, start=Model(kd_arms.kd(profile)), keep_steps=(1, 2)),
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_every_recipe_and_module_on_the_way_to_every_arm_is_there(profile):
    keys = {name: stages.key(stage) for name, stage in arms(profile).items()}
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_main_arm_is_the_papers_text(profile):
    kd, dae = kd_arms.kd(profile, 0).recipe, kd_arms.dae(profile).recipe
    assert (kd.prediction_weight, kd.attention_weight, kd.ce_weight) == (1, 1, 0)
    assert (dae.domain_teacher, dae.reference_term, dae.misrouted) == ("expert", True, 0)
    for recipe in (kd, dae):
        assert (recipe.divergence, recipe.temperature, recipe.tokens) == ("forward", 1, "all")
        assert (recipe.reduction, recipe.temperature_squared) == ("sequences", False)
    assert kd_stages.mixed_dialogues(profile, 0).recipe.domain_share == 0.1
    assert (kd.schedule, kd.warmup, dae.schedule, dae.warmup) == ("cosine", 0.1, "constant", 0.1)


@pytest.mark.parametrize(
    ("recipe", "stage"),
    [
        ("paper_3_1_1_ablation", kd_arms.kd("paper", 0)),
        ("paper_3_1_1_ablation", kd_arms.sft("paper", 0)),
        ("paper_3_1_2_scale", kd_arms.scale_kd("paper", 0)),
        ("paper_3_1_3_dae", kd_arms.dae("paper", 0)),
    ],
    ids=["kd", "sft", "scale", "dae"],
)
def test_the_paper_profile_has_the_published_settings(recipe, stage):
    theirs, ours = published(recipe), stage.recipe
    assert ours.epochs == theirs["epochs"]
    assert ours.batch == theirs["global_batch"]
    assert ours.learning_rate == theirs["lr"]
    assert ours.schedule == theirs["schedule"]
    assert ours.warmup == float(theirs["warmup"].removesuffix("%")) / 100
    assert ours.max_length == theirs["max_length"]
    assert ours.packed == theirs["packing"]


def test_the_paper_profile_has_the_published_models_and_data():
    ablation, scale, dae = (published(name) for name in (
        "paper_3_1_1_ablation", "paper_3_1_2_scale", "paper_3_1_3_dae",
    ))  # fmt: skip
    teachers = [kd_stages.same_size_teacher("paper").recipe.model, kd_stages.larger_teacher("paper").recipe.model]
    assert [model.split("/")[1] for model in teachers] == ablation["teachers"]
    assert base("paper").stage.recipe.model.split("/")[1] == ablation["student"]
    assert (
        teachers[1].split("/")[1] == scale["teacher"]
        and base("paper").stage.recipe.model.split("/")[1] in scale["student"]
    )
    assert kd_stages.random_dialogues("paper", 0).recipe.rows == 20_000
    assert "UltraChat" in ablation["data"] and "ultrachat" in kd_stages.random_dialogues("paper", 0).recipe.id
    named = {name.replace(" ", "").lower() for name in scale["data"].split(": ")[1].split(" as cited")[0].split(",")}
    sets = {name.replace("_", "") for name in kd_stages.scale_dialogues("paper", 0).recipe.sets}
    assert len(sets) == 6 and sets <= {"codealpaca", "gsm8k", "ultrachat", "slimorca", "metamath", "lima"}
    assert all(any(one in word for word in named) for one in sets) or "lima" in scale["data"].lower()
    mix = kd_stages.mixed_dialogues("paper", 0).recipe
    assert (mix.rows, mix.domain_share) == (50_000, 0.1) and "45k" in dae["data"] and "5k" in dae["data"]
    assert mix.kinds == ("extraction", "reasoning", "qna", "summary")
    expert = kd_stages.expert_sft("paper").inputs["base"].recipe
    assert isinstance(expert, HubModel) and "Mistral-7B-v0.2" in expert.model and "Mistral-7B-v0.2" in dae["expert"]


def test_arms_of_table_2_differ_by_what_they_name_alone():
    both = kd_arms.kd("tiny", 3)
    for name in ("prediction_weight", "attention_weight"):
        other = kd_arms.kd("tiny", 3, **{name: 0.0})
        assert dataclasses.replace(other.recipe, **{name: 1.0}) == both.recipe
        assert other.inputs == both.inputs
    sft = kd_arms.sft("tiny", 3)
    shared = [field.name for field in dataclasses.fields(sft.recipe) if hasattr(both.recipe, field.name)]
    assert {name for name in shared if getattr(sft.recipe, name) != getattr(both.recipe, name)} == set()
    assert sft.inputs["dialogues"] == both.inputs["dialogues"] and sft.inputs["base"] == both.inputs["student"]


def test_quality_assured_rows_are_as_many_as_random_ones():
    for profile in ("smoke", "tiny", "world-gpu"):
        assert kd_stages.qa_dialogues(profile, 0).recipe.rows == kd_stages.random_dialogues(profile, 0).recipe.rows


def test_teachers_and_expert_are_one_for_all_seeds():
    for role, make in (("teacher", kd_arms.kd), ("expert", kd_arms.dae)):
        assert len({stages.key(make("tiny", seed).inputs[role]) for seed in range(3)}) == 1


def test_the_frozen_start_is_the_general_teacher_unless_another_is_given():
    assert set(kd_arms.dae("tiny").inputs) == {"student", "expert", "dialogues"}
    other = Model(kd_stages.larger_teacher("tiny"))
    assert kd_arms.dae("tiny", general_teacher=other).inputs["general"] == other.stage


def test_an_evaluation_names_the_folder_and_what_retention_needs():
    kept = Model(kd_arms.tuned("tiny", keep_steps=(5,)), "steps/5")
    plain = kd_stages.evaluation("tiny", 3, kept, per_group=0)
    assert (plain.recipe.models, plain.recipe.folders) == (("model",), ("steps/5",))
    assert (plain.seed, plain.recipe.per_group, plain.recipe.hot, set(plain.inputs)) == (3, 0, False, {"model"})
    from_start = kd_stages.evaluation("tiny", 3, base("tiny"), start=kept)
    assert from_start.recipe.start == "steps/5" and from_start.inputs[START] == kept.stage
    assert from_start.inputs[DIALOGUES] == kd_stages.random_dialogues("tiny", 3)


def test_what_no_recipe_knows_is_refused():
    with pytest.raises(ValueError, match=r"^KDRecipe has no field 'lambda_'; it has epochs, "):
        kd_arms.kd("tiny", 0, lambda_=1.0)
    for name, value, message in (
        ("divergence", "both", "divergence must be one of forward, reverse, got 'both'"),
        ("tokens", "some", "tokens must be one of all, answers, answers_unshifted, got 'some'"),
        ("temperature", 0.0, "temperature must be positive, got 0.0"),
        ("keep_steps", (3, 2), "keep_steps must be rising steps from 1 on, got 3 and 2"),
        ("attention_weight", -1.0, "attention_weight must not be negative, got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            kd_arms.kd("tiny", 0, **{name: value})
    with pytest.raises(ValueError, match="must be above 0, else nothing is trained"):
        kd_arms.kd("tiny", 0, prediction_weight=0.0, attention_weight=0.0)


def test_another_content_of_the_domain_folder_is_another_stage(tmp_path, monkeypatch):
    monkeypatch.delenv("ZEPHYR_LAB_DATA", raising=False)
    absent = stages.key(kd_stages.mixed_dialogues("paper", 0))
    folder = tmp_path / kd_stages.mixed_dialogues("paper", 0).recipe.folder
    folder.mkdir()
    monkeypatch.setenv("ZEPHYR_LAB_DATA", str(tmp_path))
    keys = [absent]
    for text in ("one", "two"):
        (folder / "train.jsonl").write_text(text)
        keys.append(stages.key(kd_stages.mixed_dialogues("paper", 0)))
    assert len(set(keys)) == 3
    assert kd_stages.mixed_dialogues("paper", 0).recipe.digest != "absent"


def test_the_hubs_teachers_come_trained():
    for profile in HUB_PROFILES:
        assert isinstance(kd_stages.same_size_teacher(profile).recipe, HubModel)
