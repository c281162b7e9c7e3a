"""Bases as stages: settings of every profile load, and asking for one costs no torch."""

import subprocess
import sys

import pytest

from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.lab.overview.skills import probe_stage
from zephyr_lab.lab.zephyr_stages import HUB_PROFILES, base_stage
from zephyr_lab.methods.recipes.pretrain import HubModel, Pretrain


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_a_base_and_its_probe(profile):
    base, probe = base_stage(profile, seed=2), probe_stage(profile, seed=2)
    assert isinstance(base.recipe, HubModel if profile in HUB_PROFILES else Pretrain)
    assert probe.inputs == {"base": base}


def test_a_seed_makes_another_base_of_the_world_and_the_same_of_the_hub():
    assert base_stage("tiny", 0) != base_stage("tiny", 1)
    assert base_stage("paper", 0) == base_stage("paper", 1)


def test_the_tiny_base_is_the_one_described():
    recipe = base_stage("tiny").recipe
    assert recipe.steps * recipe.rows * recipe.row_length == 3_276_800  # "3.3 M tokens"
    assert recipe.row_length > recipe.window  # so that the window bites in training


def test_a_key_needs_neither_torch_nor_the_build_function():
    code = (
        "import sys; from zephyr_lab.engine import stages; from zephyr_lab.lab.overview.skills import probe_stage; "
        "stages.key(probe_stage('tiny')); print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
