"""Held-out questions for policies that are asked one turn at a time: each turn after ideal answers to those before."""

from zephyr_lab.methods.recipes.rlhf import BestOfN, Frontier
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.world import benchmark
from zephyr_lab.world.completions import Prompt
from zephyr_lab.world.task import Task


def held_out_prompts(recipe: Frontier | BestOfN) -> list[Prompt]:
    """The turns of the recipe's benchmark as prompts: two of each question of "mt_bench", one of "single_turn"."""
    size = require_world(recipe.world)
    if recipe.benchmark == "mt_bench":
        asked = benchmark.mt_bench(recipe.questions, size=size)
    else:
        asked = benchmark.single_turn(recipe.questions, size=size)
    # a single turn stands twice in its task; the second is never asked
    tasks = [Task(one.category, one.key, (one.turns[0], one.turns[-1])) for one in asked]
    return [Prompt(task, place) for task, one in zip(tasks, asked, strict=True) for place in range(len(one.turns))]
