"""`make bench` runs every benchmark and renews results.json, RESULTS.md and speed.svg; `make bench-check` only checks.

    python -m benchmarks.run [--check] [NAME ...]

Each benchmark has a process of its own. With names, only those are run and their parts renewed.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import Gate, Report, from_json, markdown, table
from zephyr_lab.core import files, provenance
from zephyr_lab.lab import costs
from zephyr_lab.reporting import figures

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results.json"
PAGE = FOLDER / "RESULTS.md"
PICTURE = FOLDER / "speed.svg"  # notebook 50's
BENCHMARKS = ("dpo_step", "dpo_epoch", "kd_head", "dae_step", "attn_kd", "kd_full", "draft_score")

PREFACE = """\
# Measured on this page

Written by `make bench`. CPU seconds of one core, contenders interleaved in one process, the least of some rounds;
peaks are torch's own allocations above the level at entry, gradients included; malloc keeps large blocks for all
contenders. GEMM share: time of the bare matrix products over the time of the step. Gates are what `make bench-check`
holds; aims are where it should get to. How: `benchmarks/harness.py`; one benchmark: `python -m benchmarks.NAME`.
All of it is float32 on a CPU: nothing here was measured on a GPU, and nothing here says how the ratios are there.

![CPU seconds of other implementations over ours, by benchmark](speed.svg)
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all where none is given")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a gate does not hold")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark named {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    reports = []
    for name in chosen.names or BENCHMARKS:
        reports.append(measured(name))
        print(table(reports[-1]), end="\n\n", flush=True)
        if not chosen.check:
            record(reports[-1])
    failing = [(report, gate) for report in reports for gate in report.gates if not gate.holds]
    print(f"{sum(len(report.gates) for report in reports) - len(failing)} gates hold, {len(failing)} do not")
    for report, gate in failing:
        print(f"FAILS {report.name}: {said(gate)}")
    return 1 if failing and chosen.check else 0


def measured(name: str) -> Report:
    """Run a benchmark in a process of its own. Raises CalledProcessError where it gives no report."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    done = subprocess.run(command, cwd=FOLDER.parent, env=os.environ, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
    return from_json(json.loads(done.stdout))


def record(report: Report) -> None:
    """Put the report into results.json, with what it was measured on; write the page and the picture anew."""
    found = results()
    found[report.name] = {"report": report.to_json(), "provenance": machine()}
    files.write_json(RESULTS, found)
    files.write_bytes(PAGE, page(found).encode())
    files.write_bytes(PICTURE, picture(found))


def results() -> dict[str, Any]:
    """What results.json holds, by benchmark; nothing where there is none."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}


def page(found: dict[str, Any]) -> str:
    """RESULTS.md of these results, the benchmarks in their order."""
    sections = []
    for name in BENCHMARKS:
        if name in found:
            packages = found[name]["provenance"]["packages"]
            versions = ", ".join(f"{package} {packages[package]}" for package in ("torch", "transformers", "trl"))
            measured_on = f"Measured on: {found[name]['provenance']['cpu']}, {versions}."
            sections.append(f"{markdown(from_json(found[name]['report']))}\n{measured_on}\n")
    return "\n".join([PREFACE, *sections])


def picture(found: dict[str, Any]) -> bytes:
    """Notebook 50's figure of these results, as SVG."""
    figures.house_style()
    return costs.speed_ups(costs.ratios(found)).encode("svg")


def machine() -> dict[str, Any]:
    """Code, versions and processor, as results.json keeps them."""
    told = provenance.describe()
    return {name: told[name] for name in ("git", "python", "packages", "system", "cpu")}


def said(gate: Gate) -> str:
    name, value, bound, _, _ = gate.cells()
    return f"{name} is {value}, must be {bound}"


if __name__ == "__main__":
    sys.exit(main())
