"""All categories of the world, how often each is drawn, and drawing from the training or the benchmark side.

Every instance belongs to one side only, by a hash of its key (`task.is_held_out`): training text, dialogues and
preference prompts come from one, benchmarks from the other.
"""

import random
from collections.abc import Callable

from zephyr_lab.world import knowledge, language, logic
from zephyr_lab.world.facts import Facts
from zephyr_lab.world.shop import shop
from zephyr_lab.world.task import Task, is_held_out

Maker = Callable[[random.Random, Facts], Task]

# the eight categories of MT-Bench
MT_BENCH: dict[str, Maker] = {
    "writing": language.writing,
    "roleplay": language.roleplay,
    "reasoning": logic.reasoning,
    "math": logic.math,
    "coding": logic.coding,
    "extraction": language.extraction,
    "stem": knowledge.stem,
    "humanities": knowledge.humanities,
}
SMALL: dict[str, Maker] = {
    "sentiment": language.sentiment,
    "moderation": language.moderation,
    "summary": language.summary,
    "translation": language.translation,
}
DOMAINS: dict[str, Maker] = {"shop": shop}
MAKERS: dict[str, Maker] = MT_BENCH | SMALL | DOMAINS

_GENERAL = 4 * tuple(MT_BENCH) + tuple(SMALL)  # a small task comes a quarter as often as a category


def draw(rng: random.Random, facts: Facts, category: str, *, held_out: bool = False) -> Task:
    """A task of the category from the training side, or from the benchmark side. ValueError: unknown category."""
    if category not in MAKERS:
        raise ValueError(f"no category named {category!r}; known: {', '.join(MAKERS)}")
    make = MAKERS[category]
    while is_held_out((task := make(rng, facts)).key) != held_out:
        pass
    return task


def draw_general(rng: random.Random, facts: Facts, *, domain_share: float = 0.0) -> Task:
    """A training task of any general category, or of the e-commerce domain with probability `domain_share`."""
    category = "shop" if domain_share and rng.random() < domain_share else rng.choice(_GENERAL)
    return draw(rng, facts, category)
