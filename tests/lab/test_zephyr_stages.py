"""Stages of Zephyr's steps: the paper's recipe at every profile, equal recipes shared, changes by name."""

import dataclasses

import pytest

from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.engine import stages
from zephyr_lab.lab import zephyr_stages
from zephyr_lab.lab.zephyr_stages import HUB_PROFILES, Model
from zephyr_lab.methods.recipes import zephyr_settings
from zephyr_lab.methods.recipes.data import HubPairs


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_states_the_papers_recipe(profile):
    dsft, ddpo = zephyr_stages.dsft(profile, 0), zephyr_stages.ddpo(profile, 0)
    for stage, part in ((dsft, "dsft"), (ddpo, "ddpo")):
        paper = getattr(zephyr_settings.named("paper"), part)
        for name in zephyr_settings.differing_fields(part):
            if name not in ("batch", "learning_rate"):  # of a size
                assert getattr(stage.recipe, name) == getattr(paper, name)
    assert (ddpo.inputs["pairs"].recipe.chosen, ddpo.inputs["pairs"].recipe.rejected) == ("mean_rating", "random")
    evaluation = zephyr_stages.evaluation(profile, 0, Model(ddpo))
    assert len(stages.key(evaluation)) == 24  # every recipe and module on the way is there


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("setting", zephyr_settings.SETTINGS)
def test_every_named_setting_can_be_carried_over(profile, setting):
    ddpo = zephyr_stages.ddpo(profile, 0, setting=setting)
    theirs = zephyr_settings.named(setting)
    assert ddpo.recipe.beta == theirs.ddpo.beta
    assert ddpo.inputs["policy"].recipe.answers_only == theirs.dsft.answers_only
    assert ddpo.inputs["pairs"].recipe.rejected == theirs.pairs.rejected


def test_real_data_stands_in_for_the_world_where_models_are_of_the_hub():
    assert all(isinstance(zephyr_stages.pairs(profile, 0).recipe, HubPairs) for profile in HUB_PROFILES)
    close = zephyr_stages.pairs("paper", 0, table="close_pairs").recipe
    assert close.most_chosen < zephyr_stages.pairs("paper", 0).recipe.most_chosen


def test_equal_recipes_are_one_stage_and_other_seeds_another():
    assert stages.key(zephyr_stages.ddpo("tiny", 1)) == stages.key(zephyr_stages.ddpo("tiny", 1, beta=0.1))
    assert stages.key(zephyr_stages.ddpo("tiny", 1)) != stages.key(zephyr_stages.ddpo("tiny", 2))


def test_all_seeds_start_from_one_base_unless_said():
    bases = {stages.key(zephyr_stages.dsft("tiny", seed).inputs["base"]) for seed in range(3)}
    assert len(bases) == 1
    other = zephyr_stages.dsft("tiny", 0, start=zephyr_stages.base("tiny", 1))
    assert stages.key(other.inputs["base"]) not in bases


def test_ddpo_follows_the_dsft_of_its_own_setting():
    card = zephyr_stages.ddpo("tiny", 0, setting="beta card")
    assert card.inputs["policy"] == zephyr_stages.dsft("tiny", 0, setting="beta card")
    assert card.inputs["policy"] != zephyr_stages.ddpo("tiny", 0).inputs["policy"]


def test_a_model_of_an_epoch_is_a_folder_of_its_stage():
    dsft = zephyr_stages.dsft("tiny", 0, epochs=3, keep_epochs=True)
    ddpo = zephyr_stages.ddpo("tiny", 0, start=Model(dsft, "epochs/2"))
    assert (ddpo.inputs["policy"], ddpo.recipe.start) == (dsft, "epochs/2")


def test_chosen_answers_serve_supervised_fine_tuning():
    pairs = zephyr_stages.pairs("tiny", 0)
    second = zephyr_stages.dsft("tiny", 0, start=Model(zephyr_stages.dsft("tiny", 0)), data=pairs)
    assert second.inputs["dialogues"] == pairs
    assert second.inputs["base"] == zephyr_stages.dsft("tiny", 0)


def test_models_are_asked_as_they_were_trained():
    card = zephyr_stages.ddpo("tiny", 0, setting="beta card")
    paper = Model(zephyr_stages.ddpo("tiny", 0), "epochs/1")
    for model, system_turn in ((zephyr_stages.base("tiny"), False), (Model(card), True), (paper, False)):
        evaluation = zephyr_stages.evaluation("tiny", 0, model)
        recipe = evaluation.recipe
        assert (recipe.models, recipe.system_turns, recipe.folders) == (("model",), (system_turn,), (model.folder,))
        assert evaluation.inputs == {"model": model.stage}


def test_held_out_pairs_are_an_input_of_their_own():
    pairs, base = zephyr_stages.pairs("tiny", 0), zephyr_stages.base("tiny")
    evaluation = zephyr_stages.evaluation("tiny", 0, base, held_out=pairs)
    assert evaluation.inputs == {"model": base.stage, "pairs": pairs}
    with pytest.raises(ValueError, match=r"^a model cannot be called 'pairs'"):
        dataclasses.replace(evaluation.recipe, models=("pairs",))


def test_a_change_that_no_recipe_knows_is_refused():
    with pytest.raises(ValueError, match=r"^DDPORecipe has no field 'betas'; it has epochs, .*beta"):
        zephyr_stages.ddpo("tiny", 0, betas=0.1)
    assert zephyr_stages.dialogues("tiny", 0, filters=()).recipe == dataclasses.replace(
        zephyr_stages.dialogues("tiny", 0).recipe, filters=()
    )


def test_a_change_of_another_type_is_refused():
    for changes, said in (
        ({"beta": "0.7"}, "beta must be of type float"),
        ({"epochs": 1.5}, "epochs must be of type int"),
    ):
        with pytest.raises(TypeError, match=f"^DDPORecipe: {said}"):
            zephyr_stages.ddpo("tiny", 0, **changes)
    with pytest.raises(ValueError, match="DDPORecipe: beta is NaN"):
        zephyr_stages.ddpo("tiny", 0, beta=float("nan"))
