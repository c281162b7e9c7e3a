"""What the base models of a profile can do: which skills a small base has depends on its seed."""

import pandas

from zephyr_lab.core import files
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.lab.base import probe_stage


def skills(profile: str, seeds: int) -> pandas.DataFrame:
    """Columns seed, category, first_turn, second_turn (mean share of the right core), tasks: one row a base and skill.

    Trains what is missing.
    """
    rows = []
    for seed, folder in enumerate(get_many([probe_stage(profile, seed) for seed in range(seeds)])):
        for category, skill in files.read_json(folder / "skills.json").items():
            rows.append({"seed": seed, "category": category, **skill})
    return pandas.DataFrame(rows)
