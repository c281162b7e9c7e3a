"""From settings to a table of skills, through the store and its workers."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest

from tiny_models import RECIPE
from zephyr_lab.world.catalogue import MAKERS

CODE = """
from zephyr_lab.lab import Lab
from zephyr_lab.lab.overview import skills
lab = Lab("zephyr", "smoke", 2, notebook="skills")
print(skills.skills([lab.base(0), lab.base(1)]).to_json(orient="records"))
"""


def as_toml(name, table):
    return f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


@pytest.mark.slow
def test_two_bases_are_trained_probed_and_told_apart(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "papers" / "zephyr").mkdir(parents=True)
    base = {**asdict(RECIPE), "context": 192}  # the longest question of the world has to fit
    settings = as_toml("base", base) + as_toml("probe", {"world": "tiny", "tasks": 2})
    (tmp_path / "papers" / "zephyr" / "settings.toml").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "ZEPHYR_LAB_ROOT": str(tmp_path), "ZEPHYR_LAB_SLOT_DIR": str(tmp_path / "slots")},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert {(row["seed"], row["category"]) for row in rows} == {(seed, name) for seed in (0, 1) for name in MAKERS}
    assert all(0 <= row["first_turn"] <= 1 and row["tasks"] == 2 for row in rows)
    assert len(list((tmp_path / "runs" / "smoke" / "base").iterdir())) == 2
