"""dSFT and dDPO as stages of a store of their own: workers killed by `kill -9`, and the hashes of what they leave."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = 10
# Steps enough for ten kills: 200 of dSFT, 180 of dDPO, a checkpoint after every second, the model of each epoch kept.
CODE = """
from zephyr_lab.core import session
from zephyr_lab.engine import scheduler
from zephyr_lab.lab import zephyr_stages
session.begin("smoke", 1, notebook="kills")
sft = zephyr_stages.dsft("smoke", 0, epochs=40, checkpoint_every=2, keep_epochs=True)
dpo = zephyr_stages.ddpo("smoke", 0, start=zephyr_stages.Model(sft), epochs=60, checkpoint_every=2, evaluate_every=20)
scheduler.get_many([sft, dpo])
"""


@dataclass(frozen=True)
class Lab:
    root: Path

    @property
    def runs(self) -> Path:
        return self.root / "runs" / "smoke"

    def start(self) -> subprocess.Popen[str]:
        environment = os.environ | {
            "ZEPHYR_LAB_ROOT": str(self.root),
            "ZEPHYR_LAB_SLOT_DIR": str(self.root / "slots"),
            "ZEPHYR_LAB_SLOTS": "2",
            "PYTHONPATH": str(self.root),
        }
        return subprocess.Popen(
            [sys.executable, "-c", CODE], env=environment, cwd=self.root, stderr=subprocess.PIPE, text=True
        )

    def working(self, stage: str) -> dict[str, int] | None:
        """What the worker of `stage` last told: its pid and step; None where none is at work."""
        found = list(self.runs.glob(f".scratch/{stage}-*/progress.json"))
        return json.loads(found[0].read_text()) if found else None

    def artefacts(self) -> dict[str, str]:
        """stage/key/file -> SHA-256, from the end records."""
        return {
            f"{end.parent.relative_to(self.runs)}/{name}": entry["sha256"]
            for end in self.runs.glob("*/*/end.json")
            for name, entry in json.loads(end.read_text())["files"].items()
        }


def new_lab(folder: Path) -> Lab:
    for name in ("papers", "zephyr_lab"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return Lab(folder)


@pytest.mark.slow
def test_stages_killed_ten_times_have_the_hashes_of_unbroken_ones(tmp_path_factory):
    whole, killed = (new_lab(tmp_path_factory.mktemp(name)) for name in ("whole", "killed"))
    process = whole.start()
    assert process.wait() == 0, process.stderr.read()
    shutil.copytree(whole.runs / "base", killed.runs / "base")
    moments = random.Random(0)
    for stage in ("dsft", "ddpo"):
        dead, step = set(), 0
        for _ in range(KILLS):
            step = kill_worker(killed, stage, dead, past=step + moments.randint(0, 3), seconds=moments.uniform(0, 0.1))
    process = killed.start()
    assert process.wait() == 0, process.stderr.read()
    assert killed.artefacts() == whole.artefacts()
    assert {name.split("/")[0] for name in killed.artefacts()} == {"base", "dialogues", "dsft", "pairs", "ddpo"}


def kill_worker(lab: Lab, stage: str, dead: set[int], *, past: int, seconds: float) -> int:
    """Kill the worker of `stage`, `seconds` after it tells of a step beyond `past`; returns its last step."""
    process = lab.start()
    while (told := lab.working(stage)) is None or told["pid"] in dead or told["step"] <= past:
        assert process.poll() is None, f"{stage} ended before it was killed {KILLS} times: take more epochs"
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(told["pid"], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert "was killed by signal 9" in errors
    dead.add(told["pid"])
    return lab.working(stage)["step"]
