"""The base models of a profile as stages, and what each of them can do."""

import pandas

from zephyr_lab.core import files, settings
from zephyr_lab.core.stages import Stage
from zephyr_lab.lab.scheduler import get_many
from zephyr_lab.training.recipes.hub_model import HubModel
from zephyr_lab.training.recipes.pretrain import Pretrain
from zephyr_lab.training.recipes.probe import Probe

HUB_PROFILES = ("gpu", "paper")  # real language: a model of the hub instead of one trained on the world


def base_stage(profile: str, seed: int = 0) -> Stage:
    """The base model of `profile`. `seed` decides text and weights; a model of the hub is the same for all seeds."""
    if profile in HUB_PROFILES:
        return Stage("base", "zephyr_lab.training.hub_model:build", settings.load("zephyr", profile, "base", HubModel))
    recipe = settings.load("zephyr", profile, "base", Pretrain)
    return Stage("base", "zephyr_lab.training.pretrain:build", recipe, seed=seed)


def probe_stage(profile: str, seed: int = 0) -> Stage:
    """The skill probe of the base with this seed. A stage of its own: another judge must not retrain the base."""
    recipe = settings.load("zephyr", profile, "probe", Probe)
    base = base_stage(profile, seed)
    return Stage("probe", "zephyr_lab.training.probe:build", recipe, inputs={"base": base})


def skills(profile: str, seeds: int) -> pandas.DataFrame:
    """Columns seed, category, first_turn, second_turn (mean share of the right core), tasks: one row a base and skill.

    Trains what is missing.
    """
    rows = []
    for seed, folder in enumerate(get_many([probe_stage(profile, seed) for seed in range(seeds)])):
        for category, skill in files.read_json(folder / "skills.json").items():
            rows.append({"seed": seed, "category": category, **skill})
    return pandas.DataFrame(rows)
