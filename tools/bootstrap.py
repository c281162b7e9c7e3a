"""`make reproduce`, `make test` and `make bench` for people without make. Standard library only.

    python3 tools/bootstrap.py run  [--profile tiny] [--seeds 3]
    python3 tools/bootstrap.py test
    python3 tools/bootstrap.py bench | bench-check
    python3 tools/bootstrap.py setup

The steps and the environment variables are the Makefile's; tests/test_repository.py compares the two.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(".venv") / "bin"
STAMP = Path(".venv") / ".installed"
STAMPED = ("pyproject.toml", "constraints.txt")
A_PROCESS_A_CORE = ("-n", "logical", "--dist", "loadfile", "--no-loadscope-reorder")  # of pytest-xdist
HUB_PROFILES = ("gpu", "paper")  # the ones that read models and data from the hub

Command = tuple[str, ...]

BENCHMARKS: Command = (f"{BIN}/python", "-m", "benchmarks.run")


def environment(profile: str) -> dict[str, str]:
    """No telemetry, no pip chatter, and no download unless the profile is made of hub models."""
    return {
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "0" if profile in HUB_PROFILES else "1"),
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "JUPYTER_PLATFORM_DIRS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def is_installed(root: Path) -> bool:
    """Whether the stamp is there and no file that it was made from is newer."""
    stamp = root / STAMP
    if not stamp.is_file():
        return False
    made = stamp.stat().st_mtime_ns
    return all((root / name).stat().st_mtime_ns <= made for name in STAMPED)


def setup_commands(root: Path, python: str) -> list[Command]:
    """What builds or repairs .venv; nothing where it is up to date."""
    if is_installed(root):
        return []
    make_venv = [] if (root / BIN / "pip").exists() else [(python, "-m", "venv", "--clear", ".venv")]
    return [*make_venv, (f"{BIN}/python", "-m", "pip", "install", "-qq", "-c", "constraints.txt", "-e", ".[test]")]


def commands(target: str, profile: str, seeds: int) -> list[Command]:
    """What a target does once .venv stands."""
    lab = f"{BIN}/zephyr-lab"
    return {
        "setup": [],
        "run": [
            (lab, "run", "--profile", profile, "--seeds", str(seeds)),
            (lab, "report", "--profile", profile),
            (lab, "check", "--profile", profile),
        ],
        "test": [(f"{BIN}/python", "-m", "pytest", "-q", "-m", "not slow", *A_PROCESS_A_CORE)],
        "bench": [BENCHMARKS],
        "bench-check": [(*BENCHMARKS, "--check")],
    }[target]


def main() -> int:
    parser = argparse.ArgumentParser(description="Build .venv and run or test zephyr_lab, without make.")
    parser.add_argument("target", choices=("run", "test", "bench", "bench-check", "setup"))
    parser.add_argument("--profile", default="tiny", help="smoke, tiny (default), world-gpu, gpu or paper")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds: 0 to N-1 (default 3)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    chosen = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is started by whatever Python is at hand
        parser.error(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: python3.11 {sys.argv[0]} ...")

    setup = setup_commands(ROOT, sys.executable)
    work = commands(chosen.target, chosen.profile, chosen.seeds)
    if chosen.dry_run:
        print(*map(shlex.join, [*setup, *work]), sep="\n")
        return 0
    variables = os.environ | environment(chosen.profile)
    if setup:
        print("installing into .venv (minutes the first time)", flush=True)
        if code := first_failure(setup, variables):
            return code
        (ROOT / STAMP).touch()
    return first_failure(work, variables)


def first_failure(steps: list[Command], variables: dict[str, str]) -> int:
    """Run the steps in turn; the exit status of the first that fails, or 0."""
    for step in steps:
        if code := subprocess.run(step, cwd=ROOT, env=variables).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
