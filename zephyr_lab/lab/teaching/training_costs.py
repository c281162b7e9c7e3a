"""What a training cost, and what somebody must set to run it: tokens, FLOPs, CPU seconds, memory, knobs.

FLOPs are counted, not measured: 2 a parameter and token read, three times that where a gradient is kept; the share of
attention itself, a few percent at these lengths, is left out. One rule for all methods, so that ratios are fair.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from zephyr_lab.engine.scheduler import get_many, metrics
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import seed_means
from zephyr_lab.lab.arms import Arm
from zephyr_lab.methods.recipes.pairs import RewardRecipe
from zephyr_lab.methods.recipes.training import knobs
from zephyr_lab.reporting import tables

FORWARD, WITH_GRADIENT = 2, 6  # FLOPs a parameter and token
TERA = 1e12
METRICS = {
    "tokens_generated": "tokens sampled, thousands",
    "tokens_read": "tokens read, thousands",
    "tflop": "TFLOP",
    "cpu_seconds": "CPU seconds",
    "peak_mib": "peak memory, MiB",
}


@dataclass(frozen=True)
class Costs:
    """frame: a row a seed and arm: seed, model (the arm) and what `cost` says of its trainings."""

    frame: pd.DataFrame

    @classmethod
    def of(cls, arms: Mapping[str, Arm], *, seeds: int, parameters: float) -> "Costs":
        """What the trainings of each arm cost, that of the reward model it needs among them. parameters: of the model
        that all of them train. Trains what is missing."""
        get_many([arm.stage(seed) for arm in arms.values() for seed in range(seeds)])
        return cls(pd.DataFrame([
            {"seed": seed, "model": name, **cost(trainings(arm.stage(seed)), parameters=parameters)}
            for name, arm in arms.items()
            for seed in range(seeds)
        ]))  # fmt: skip

    @property
    def arms(self) -> list[str]:
        """The names of the arms."""
        return list(dict.fromkeys(self.frame["model"]))

    def values(self, arm: str, column: str) -> pd.Series:
        """One cost of an arm, a value a seed. Raises ValueError for an arm that is not among these."""
        own = self.frame[self.frame["model"] == arm]
        if own.empty:
            raise ValueError(f"no arm named {arm!r}; there are {', '.join(self.arms)}")
        return own.set_index("seed")[column].sort_index()

    def ratio(self, ours: str, theirs: str, column: str) -> pd.Series:
        """A cost of one arm over that of another, a value a seed."""
        return self.values(ours, column) / self.values(theirs, column)

    def table(self) -> pd.DataFrame:
        """Tidy frame: tokens sampled and read, TFLOP, CPU seconds, MiB of each arm; no row for one seed."""
        return tables.frame(
            line
            for arm in self.arms
            for column, metric in METRICS.items()
            for line in seed_means.number(
                arm, metric, list((1e-3 if column.startswith("tokens") else 1.0) * self.values(arm, column)), n=1
            )
        )


def trainings(stage: Stage) -> list[Stage]:
    """A method's own trainings: the reward model that it climbs, if any, and the policy."""
    return [*([stage.inputs["reward"]] if "reward" in stage.inputs else []), stage]


def cost(stages: Iterable[Stage], *, parameters: float) -> dict[str, float]:
    """Cost of a method whose trainings are `stages`: the columns of `METRICS`, and seconds_a_token (CPU seconds a token
    read with a gradient; sampling, rewards and the reference are part of them).

    Tokens, FLOPs and seconds add up; memory is the largest, for the trainings come one after another.
    """
    spent = [metrics(stage) for stage in stages]
    seconds = sum(one["cpu_seconds"] for one in spent)
    return {
        "tokens_generated": sum(one.get("tokens_generated", 0.0) for one in spent),
        "tokens_read": sum(map(tokens_read, spent)),
        "tflop": sum(flops(one, parameters=parameters) for one in spent) / TERA,
        "cpu_seconds": seconds,
        "peak_mib": max(one["peak_mib"] for one in spent),
        "seconds_a_token": seconds / sum(one["tokens_trained"] for one in spent),
    }


def flops(spent: Mapping[str, float], *, parameters: float) -> float:
    """FLOPs of a training from its token counts: each token sampled or prompted is read once on the way."""
    forward = sum(spent.get(f"tokens_{name}", 0.0) for name in ("generated", "prompted", "scored"))
    return parameters * (FORWARD * forward + WITH_GRADIENT * spent.get("tokens_trained", 0.0))


def tokens_read(spent: Mapping[str, float]) -> float:
    """Tokens that went through a model, once for each time."""
    return sum(spent.get(f"tokens_{name}", 0.0) for name in ("generated", "prompted", "scored", "trained"))


def knobs_of(arm: Arm) -> list[str]:
    """What must be set for an arm's trainings: fields of their recipes that shape what is learned, by stage."""
    return [
        f"reward model: {name}" if isinstance(stage.recipe, RewardRecipe) else name
        for stage in trainings(arm.stage(0))
        for name in knobs(stage.recipe)
    ]


def knob_table(arms: Mapping[str, Arm]) -> pd.DataFrame:
    """One row an arm: how many knobs, and which."""
    named = {name: knobs_of(arm) for name, arm in arms.items()}
    return pd.DataFrame(
        {"method": name, "knobs": len(fields), "which": ", ".join(fields)} for name, fields in named.items()
    )
