"""Which stages the toy notebooks need: eleven walks, the same for all, and three sums that build on them."""

from toy_recipes.arithmetic import Walk
from zephyr_lab.core import session
from zephyr_lab.core.files import write_text
from zephyr_lab.engine.scheduler import get_many
from zephyr_lab.engine.stages import Stage


def stages(count, length, pause):
    walks = [Stage("walk", "toy_recipes.arithmetic:build", Walk(length, pause), seed=seed) for seed in range(count)]
    thirds = [walks[start::3] for start in range(3)]
    sums = [
        Stage("sum", "toy_recipes.arithmetic:build", Walk(length, pause), seed=number, inputs=named(part))
        for number, part in enumerate(thirds)
    ]
    return walks + sums


def named(walks):
    return {f"walk{stage.seed}": stage for stage in walks}


def ends(count, length, pause):
    return [(folder / "end.txt").read_text() for folder in get_many(stages(count, length, pause))]


def save(name, lines):
    target = session.current().build / "tables" / f"{name}.txt"
    write_text(target, "\n".join(lines) + "\n")
    session.add_product(target)
