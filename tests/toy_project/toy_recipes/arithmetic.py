"""Toy stages: seconds of arithmetic with checkpoints, which show what the store and the workers promise."""

import json
import os
import time
from dataclasses import dataclass

from toy_recipes import steps


@dataclass(frozen=True)
class Walk:
    """`length` steps of a pseudo-random walk, each slept over for `pause` seconds."""

    length: int
    pause: float = 0.0
    fail: str = ""


def build(recipe, *, seed, inputs, out, context):
    """Sum the inputs' ends, walk on from there, and write the end; resumes from the last whole checkpoint."""
    if recipe.fail:
        raise ValueError(recipe.fail)
    state = {"step": 0, "value": seed + sum(read_end(folder) for _, folder in sorted(inputs.items()))}
    saved = context.checkpoints / "state.json"
    if saved.exists():
        state = json.loads(saved.read_text())
    with open(os.environ["TOY_JOURNAL"], "a") as journal:
        journal.write(f"{out.parent.name} {state['step']} {time.time()}\n")
    while state["step"] < recipe.length:
        state = {"step": state["step"] + 1, "value": steps.next_value(state["value"])}
        part = saved.with_suffix(".part")
        part.write_text(json.dumps(state))
        part.rename(saved)
        time.sleep(recipe.pause)
        context.progress(state["step"], recipe.length, value=state["value"])
    (out / "end.txt").write_text(str(state["value"]))
    return {"value": float(state["value"])}


def read_end(folder):
    return int((folder / "end.txt").read_text())
