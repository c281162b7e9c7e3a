"""What base models can do before any alignment: which skills a small base has depends on its seed."""

from collections.abc import Sequence

import pandas as pd

from zephyr_lab.core import files, settings
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage
from zephyr_lab.lab import numbers
from zephyr_lab.lab.arms import Arm
from zephyr_lab.lab.zephyr_stages import base_stage
from zephyr_lab.methods.recipes.inspection import Probe
from zephyr_lab.reporting import tables
from zephyr_lab.scoring.intervals import EXACT, all_equal, clopper_pearson


def skills(bases: Sequence[Arm]) -> pd.DataFrame:
    """Columns seed, category, first_turn, second_turn (mean share of the right core), tasks: one row a base and skill.

    `bases` are models that all seeds share; seed: their place here. Trains what is missing.
    """
    probes = [probe_of(base.profile, base.stage(0)) for base in bases]
    rows = []
    for seed, folder in enumerate(get_many(probes)):
        for category, skill in files.read_json(folder / "skills.json").items():
            rows.append({"seed": seed, "category": category, **skill})
    return pd.DataFrame(rows)


def means(probed: pd.DataFrame) -> pd.DataFrame:
    """Mean right core over the bases in percent, metrics "first_turn" and "second_turn"; empty for one base alone.

    Where all bases are equal the interval is over the tasks instead, and says so.
    """
    count = probed["seed"].nunique()
    if count < 2:
        return tables.frame([])
    rows = []
    for category, part in probed.groupby("category", sort=False):
        for metric in ("first_turn", "second_turn"):
            n, values = int(part["tasks"].iloc[0]), (100 * part[metric]).to_numpy()
            line = numbers.mean(str(category), metric, values, of=f"{count} bases")
            if all_equal(values):
                low, high = clopper_pearson(n * part[metric].iloc[0], n)
                line |= {"low": 100 * low, "high": 100 * high, "interval": f"{count} equal bases: {n} tasks, {EXACT}"}
            rows.append(line | {"kind": "retrained", "seeds": count, "n": n, "source": "skill probe"})
    return tables.frame(rows)


def probe_stage(profile: str, seed: int = 0) -> Stage:
    """The skill probe of the base with this seed."""
    return probe_of(profile, base_stage(profile, seed))


def probe_of(profile: str, base: Stage) -> Stage:
    """The skill probe of a base. A stage of its own: another judge must not retrain the base."""
    recipe = settings.load("zephyr", profile, "probe", Probe)
    return Stage("probe", "zephyr_lab.methods.stages.inspection:build_probe", recipe, inputs={"base": base})
