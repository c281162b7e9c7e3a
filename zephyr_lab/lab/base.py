"""The base models of a profile, and the probe of what each can do, as stages."""

from zephyr_lab.core import settings
from zephyr_lab.engine.stages import Stage
from zephyr_lab.methods.recipes.inspection import Probe
from zephyr_lab.methods.recipes.pretrain import HubModel, Pretrain

HUB_PROFILES = ("gpu", "paper")  # real language: a model of the hub instead of one trained on the world


def base_stage(profile: str, seed: int = 0) -> Stage:
    """The base model of `profile`. `seed` decides text and weights; a model of the hub is the same for all seeds."""
    if profile in HUB_PROFILES:
        return Stage(
            "base",
            "zephyr_lab.methods.stages.pretrain:build_hub_model",
            settings.load("zephyr", profile, "base", HubModel),
        )
    recipe = settings.load("zephyr", profile, "base", Pretrain)
    return Stage("base", "zephyr_lab.methods.stages.pretrain:build", recipe, seed=seed)


def probe_stage(profile: str, seed: int = 0) -> Stage:
    """The skill probe of the base with this seed."""
    return probe_of(profile, base_stage(profile, seed))


def probe_of(profile: str, base: Stage) -> Stage:
    """The skill probe of a base. A stage of its own: another judge must not retrain the base."""
    recipe = settings.load("zephyr", profile, "probe", Probe)
    return Stage("probe", "zephyr_lab.methods.stages.inspection:build_probe", recipe, inputs={"base": base})
