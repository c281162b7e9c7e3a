"""What the process that builds one stage does: a fork, or `python -m zephyr_lab.engine.worker JOB`.

It holds the locked files of its stage and its slot, builds in scratch, checks that the code is still the code it was
asked for, and makes the result a finished stage with one rename.
"""

import importlib
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_lab.core import files, provenance, settings
from zephyr_lab.engine import stages, store
from zephyr_lab.engine.processes import die_with_parent
from zephyr_lab.engine.progress import ProgressWriter


@dataclass(frozen=True)
class StageContext:
    """What a build function gets beside its recipe.

    checkpoints: a folder that survives a kill; a build resumes from what it finds there and marks a checkpoint
    complete after it is written. progress(step, total, loss=...): shown live.
    """

    checkpoints: Path
    progress: ProgressWriter


def main(job_path: str) -> int:
    """`run`, in a process of its own that was handed the locked descriptors and dies with its parent."""
    job = json.loads(Path(job_path).read_text())
    die_with_parent(job["parent"])
    for handle in job["locks"]:
        os.set_inheritable(handle, False)  # processes that the build starts must not keep our locks alive
    return run(job_path)


def run(job_path: str) -> int:
    """Build the stage that the JSON file `job_path` describes; 0 when it is finished, else `error.json` says why."""
    job = json.loads(Path(job_path).read_text())
    slot = store.Slot(job["profile"], job["description"]["name"], job["key"])
    try:
        build(slot, job)
    except Exception as error:
        report = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
        files.write_json(slot.scratch / "error.json", report)
        return 1
    return 0


def build(slot: store.Slot, job: dict[str, Any]) -> Path:
    """Run the build function in scratch and finish the stage. Needs the stage's lock."""
    wanted = job["description"]
    refuse_changed_source(wanted)
    store.discard(slot.out)  # a killed build's; checkpoints stay
    slot.out.mkdir(parents=True)
    slot.checkpoints.mkdir(exist_ok=True)
    recipe = load_recipe(wanted["recipe"])
    function = load_object(wanted["build"])
    progress = ProgressWriter(slot.scratch / "progress.json", stage=slot.name, seed=wanted["seed"])
    context = StageContext(slot.checkpoints, progress)
    inputs = {role: Path(folder) for role, folder in job["inputs"].items()}
    began, cpu = time.time(), time.process_time()
    metrics = function(recipe, seed=wanted["seed"], inputs=inputs, out=slot.out, context=context)
    refuse_changed_source(wanted)
    return store.finish(slot, {
        "schema": 1,
        "stage": wanted,
        "key": slot.key,
        "metrics": metrics or {},
        "seconds": round(time.time() - began, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "provenance": provenance.describe(),
    })  # fmt: skip


def refuse_changed_source(wanted: dict[str, Any]) -> None:
    """Raises RuntimeError where the source on disk is no longer the source of the key that is wanted."""
    reached = stages.reached(stages.code_of(wanted))
    if reached is None or reached.digest != wanted["source"]:
        raise RuntimeError(
            f"the code of stage {wanted['name']} changed after it was asked for; run again to use the new code"
        )


def load_object(name: str) -> Any:
    """The object named "package.module:attribute"."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_recipe(table: dict[str, Any]) -> Any:
    """The recipe dataclass back from its JSON form (lists become tuples where the field says so)."""
    fields = {name: value for name, value in table.items() if name != "class"}
    return settings.from_table(fields, load_object(table["class"]), f"recipe {table['class']}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
