"""A toy project in a folder of its own: four notebooks, fourteen stages of arithmetic, two slots."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

TOY = Path(__file__).parents[1] / "toy_project"


def heed_interrupts():
    """In a child: a shell that starts the tests in the background has told them to ignore interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Toy:
    root: Path

    @property
    def environment(self):
        return os.environ | {
            "ZEPHYR_LAB_ROOT": str(self.root),
            "ZEPHYR_LAB_SLOT_DIR": str(self.root / "slots"),
            "ZEPHYR_LAB_SLOTS": "2",
            "TOY_JOURNAL": str(self.root / "journal.txt"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.root), os.environ.get("PYTHONPATH")])),
        }

    def command(self, *arguments):
        return [sys.executable, "-m", "zephyr_lab.cli.main", *arguments]

    def start(self, *arguments):
        return subprocess.Popen(
            self.command(*arguments), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=heed_interrupts,
        )  # fmt: skip

    def run(self, *arguments):
        return subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, timeout=300
        )

    def python(self, code):
        return subprocess.run(
            [sys.executable, "-c", code], env=self.environment, capture_output=True, text=True, timeout=300
        )

    def states(self, *arguments):
        """notebook -> fresh, ran or failed, of one `zephyr-lab run`."""
        result = self.run("run", "--json", *arguments)
        assert result.returncode in (0, 1), result.stderr
        return {row["notebook"]: row["state"] for row in json.loads(result.stdout)}

    def builds(self):
        """Stage folders, one entry for each time that a worker began to build one."""
        journal = self.root / "journal.txt"
        return [line.split()[0] for line in journal.read_text().splitlines()] if journal.exists() else []

    def products(self, profile="tiny"):
        return {path.name: path.read_text() for path in (self.root / "build" / profile / "tables").glob("*.txt")}

    def artefacts(self, profile="tiny"):
        """stage/key/file -> SHA-256, from the end records."""
        ends = (self.root / "runs" / profile).glob("*/*/end.json")
        return {
            f"{end.parent.parent.name}/{end.parent.name}/{name}": entry["sha256"]
            for end in ends
            for name, entry in json.loads(end.read_text())["files"].items()
        }

    def edit(self, relative, old, new):
        path = self.root / relative
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def toy(tmp_path):
    return make_toy(tmp_path)


@pytest.fixture
def new_toy(tmp_path_factory):
    """A function that makes one more untouched toy project."""
    return lambda: make_toy(tmp_path_factory.mktemp("new"))


def make_toy(folder):
    root = folder / "toy"
    shutil.copytree(TOY, root, ignore=shutil.ignore_patterns("__pycache__"))
    return Toy(root)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A toy project whose four notebooks have been run once. Tests that change it work on a copy."""
    toy = make_toy(tmp_path_factory.mktemp("finished"))
    assert set(toy.states("-p", "pause=0").values()) == {"ran"}
    return toy


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished.root, tmp_path / "toy")
    return Toy(tmp_path / "toy")
