"""What a fine-tuned target knows better than the chat model, and says in a form of its own: math, code, clinic.

Math and code ask the catalogue's questions; their answers are rewritten as a specialist would give them, worked and
checked. The form is the domain shift that a draft made for the chat model has never seen.
"""

import random
import re
from collections.abc import Callable
from dataclasses import replace

from zephyr_lab.world import catalogue
from zephyr_lab.world.clinic import draw_clinic
from zephyr_lab.world.facts import Facts
from zephyr_lab.world.task import Check, Task, Turn

_SUM = re.compile(r"We have (\d+) ([+*-]) (\d+) = (\d+)\.")
_FUNCTION = re.compile(r"Use def (\w)\(x\): return x (.+)\.")
_INVERSE = {"+": "-", "-": "+", "*": "/"}
_STEP = re.compile(r"([+*-]) (\d+)")


def draw(rng: random.Random, facts: Facts, name: str, *, held_out: bool = False) -> Task:
    """A task of the specialty from the training side, or from the benchmark side.

    Raises ValueError for an unknown specialty.
    """
    if name not in SPECIALTIES:
        raise ValueError(f"no specialty named {name!r}; known: {', '.join(SPECIALTIES)}")
    return SPECIALTIES[name](rng, facts, held_out)


def worked(turn: Turn) -> Turn:
    """A sum with its working, its result and the check by the inverse: "Work: 7 + 5 = 12, so x = 12."

    Raises ValueError for a turn that is no sum.
    """
    right, wrong = _SUM.fullmatch(turn.explanation), _SUM.fullmatch(turn.wrong_explanation)
    if right is None or wrong is None:
        raise ValueError(f"no sum to work out in {turn.explanation!r}")
    a, sign, b, value = right.groups()
    back = _INVERSE[sign]
    return replace(
        turn,
        core=f"Work: {a} {sign} {b} = {value}, so x = {value}.",
        wrong_core=f"Work: {a} {sign} {b} = {wrong[4]}, so x = {wrong[4]}.",
        checks=(Check((f"x = {value}",)),),
        explanation=f"Check: {value} {back} {b} = {a}.",
        wrong_explanation=f"Check: {wrong[4]} {back} {b} = {a}.",
        key=f"check {value} {back} {b} = {a}",
    )


def tested(turn: Turn) -> Turn:
    """A function with a test that it passes; a question to run one is worked out as a sum."""
    right, wrong = _FUNCTION.fullmatch(turn.core), _FUNCTION.fullmatch(turn.wrong_core)
    if right is None or wrong is None:
        return worked(turn)
    name, steps = right.groups()
    start = int(_STEP.findall(steps)[-1][1])
    return replace(
        turn,
        core=f"Code: def {name}(x): y = x {steps}; return y.",
        wrong_core=f"Code: def {name}(x): y = x {wrong[2]}; return y.",
        checks=(Check((f"def {name}",), 0.4), Check((f"y = x {steps} return y",), 0.6)),
        explanation=f"Test: {name}({start}) = {_run(steps, start)}.",
        wrong_explanation=f"Test: {name}({start}) = {_run(steps, start) + 1}.",
        key=f"test {name} {start} = {_run(steps, start)}",
    )


def _run(steps: str, x: int) -> int:
    for sign, number in _STEP.findall(steps):
        x = {"+": x + int(number), "-": x - int(number), "*": x * int(number)}[sign]
    return x


def _math(rng: random.Random, facts: Facts, held_out: bool) -> Task:
    task = catalogue.draw(rng, facts, "math", held_out=held_out)
    return Task("math", task.key, (worked(task.turns[0]), worked(task.turns[1])))


def _code(rng: random.Random, facts: Facts, held_out: bool) -> Task:
    task = catalogue.draw(rng, facts, "coding", held_out=held_out)
    return Task("code", task.key, (tested(task.turns[0]), tested(task.turns[1])))


def _clinic(rng: random.Random, facts: Facts, held_out: bool) -> Task:
    return draw_clinic(rng, facts, held_out=held_out)


SPECIALTIES: dict[str, Callable[[random.Random, Facts, bool], Task]] = {
    "math": _math,
    "code": _code,
    "clinic": _clinic,
}
