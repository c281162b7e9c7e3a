"""The e-commerce domain: a product card and two of twenty groups of questions about it.

Answer formats such as "Color=red; material=wood." occur nowhere else, so the domain is a true shift away from the
general categories. Facts outside the card: the brand's country, days to return by department, what is sold together.
"""

import random
from collections.abc import Callable

from zephyr_lab.world import shop_reading as reading
from zephyr_lab.world import shop_reckoning as reckoning
from zephyr_lab.world.facts import Facts
from zephyr_lab.world.shop_cards import Ask, Card, draw_card
from zephyr_lab.world.task import Check, Task, Turn
from zephyr_lab.world.vocabulary import other

GROUPS: dict[str, Callable[[random.Random, Facts, Card], Ask]] = {
    ask.__name__: ask
    for ask in (
        reading.attributes,
        reading.material,
        reading.summary,
        reading.title,
        reading.tags,
        reading.query,
        reading.same,
        reading.stock,
        reading.review,
        reading.complaint,
        reckoning.department,
        reckoning.origin,
        reckoning.returns,
        reckoning.partner,
        reckoning.tier,
        reckoning.shipping,
        reckoning.discount,
        reckoning.total,
        reckoning.compare,
        reckoning.order,
    )
}
_NAMES = tuple(GROUPS)


def shop(rng: random.Random, facts: Facts, *, group: str | None = None) -> Task:
    """A card with two questions of different groups; the first of `group` where one is named (ValueError: unknown)."""
    if group is not None and group not in GROUPS:
        raise ValueError(f"no e-commerce group named {group!r}; known: {', '.join(GROUPS)}")
    card = draw_card(rng, facts)
    first = group or rng.choice(_NAMES)
    second = other(rng, _NAMES, first)
    turns = (_turn(rng, facts, card, first, f"{card.text} "), _turn(rng, facts, card, second, ""))
    return Task("shop", f"shop/{card.text}", turns)


def _turn(rng: random.Random, facts: Facts, card: Card, group: str, before: str) -> Turn:
    ask = GROUPS[group](rng, facts, card)
    return Turn(
        prompt=before + ask.prompt,
        core=ask.core,
        wrong_core=ask.wrong_core,
        checks=tuple(Check((phrase,), 1 / len(ask.phrases)) for phrase in ask.phrases),
        explanation=ask.explained[0],
        wrong_explanation=ask.explained[1],
        key=ask.key,
        group=group,
    )
