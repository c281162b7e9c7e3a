"""What a training cost, and what somebody must set to run it: tokens, FLOPs, CPU seconds, memory, knobs.

FLOPs are counted, not measured: 2 a parameter and token read, three times that where a gradient is kept; the share of
attention itself, a few percent at these lengths, is left out. One rule for all methods, so that ratios are fair.
"""

from collections.abc import Iterable, Mapping

import pandas as pd

from zephyr_lab.engine.scheduler import metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.methods.recipes.reward import RewardRecipe
from zephyr_lab.methods.recipes.rlhf import knobs

FORWARD, WITH_GRADIENT = 2, 6  # FLOPs a parameter and token
TERA = 1e12
COLUMNS = ("tokens_generated", "tokens_read", "tflop", "cpu_seconds", "peak_mib")


def cost(stages: Iterable[Stage], *, parameters: float) -> dict[str, float]:
    """Cost of a method whose trainings are `stages` (the reward model's among them), by `COLUMNS`.

    Tokens, FLOPs and seconds add up; memory is the largest, for the trainings come one after another.
    """
    found = [metrics(stage) for stage in stages]
    return {
        "tokens_generated": sum(one.get("tokens_generated", 0.0) for one in found),
        "tokens_read": sum(map(tokens_read, found)),
        "tflop": sum(flops(one, parameters=parameters) for one in found) / TERA,
        "cpu_seconds": sum(one["cpu_seconds"] for one in found),
        "peak_mib": max(one["peak_mib"] for one in found),
    }


def flops(spent: Mapping[str, float], *, parameters: float) -> float:
    """FLOPs of a training from its token counts: each token sampled or prompted is read once on the way."""
    forward = sum(spent.get(f"tokens_{name}", 0.0) for name in ("generated", "prompted", "scored"))
    return parameters * (FORWARD * forward + WITH_GRADIENT * spent.get("tokens_trained", 0.0))


def tokens_read(spent: Mapping[str, float]) -> float:
    """Tokens that went through a model, once for each time."""
    return sum(spent.get(f"tokens_{name}", 0.0) for name in ("generated", "prompted", "scored", "trained"))


def all_knobs(stages: Iterable[Stage]) -> list[str]:
    """What must be set for these trainings: fields of their recipes that shape what is learned, by stage."""
    return [
        f"reward model: {name}" if isinstance(stage.recipe, RewardRecipe) else name
        for stage in stages
        for name in knobs(stage.recipe)
    ]


def knob_table(methods: Mapping[str, list[Stage]]) -> pd.DataFrame:
    """One row a method: how many knobs, and which."""
    rows = []
    for name, stages in methods.items():
        named = all_knobs(stages)
        rows.append({"method": name, "knobs": len(named), "which": ", ".join(named)})
    return pd.DataFrame(rows)
