"""Product cards of the e-commerce domain, and the question about a card as its groups write it.

E-commerce groups that read, reshape or judge what a card or a review says.

E-commerce groups that reckon with prices, or need facts that no card holds.

The e-commerce domain: a product card and two of twenty groups of questions about it.

Answer formats such as "Color=red; material=wood." occur nowhere else, so the domain is a true shift away from the
general categories. Facts outside the card: the brand's country, days to return by department, what is sold together.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from zephyr_lab.world.facts import Facts, Product
from zephyr_lab.world.task import Check, Task, Turn
from zephyr_lab.world.vocabulary import COLOURS, COUNTRIES, MATERIALS, other


@dataclass(frozen=True, slots=True)
class Card:
    """A product card, and the wrong values that a careless reader would give for it."""

    brand: str
    country: str
    product: Product
    colour: str
    material: str
    price: int  # EUR
    in_stock: bool
    wrong_colour: str
    wrong_material: str
    wrong_product: Product  # of another department
    wrong_country: str

    @property
    def text(self) -> str:
        stock = "yes" if self.in_stock else "no"
        return (
            f"Card: {self.brand} {self.product.name}, {self.colour}, {self.material}, {self.price} EUR, stock {stock}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question about a card. `phrases` have equal weights; `explained` is (right, wrong); see task.Turn."""

    prompt: str
    core: str
    wrong_core: str
    phrases: tuple[str, ...]
    explained: tuple[str, str]
    key: str


def draw_card(rng: random.Random, facts: Facts) -> Card:
    brand, country = rng.choice(facts.brands)
    product, colour, material = rng.choice(facts.products), rng.choice(COLOURS), rng.choice(MATERIALS)
    wrong_product = rng.choice(facts.products)
    while wrong_product.department == product.department:
        wrong_product = rng.choice(facts.products)
    return Card(
        brand=brand,
        country=country,
        product=product,
        colour=colour,
        material=material,
        price=5 * rng.randint(3, 19),
        in_stock=rng.random() < 0.6,
        wrong_colour=other(rng, COLOURS, colour),
        wrong_material=other(rng, MATERIALS, material),
        wrong_product=wrong_product,
        wrong_country=other(rng, COUNTRIES, country),
    )


_GOOD, _BAD = ("great", "lovely", "solid"), ("broken", "weak", "ugly")
_COMPLAINTS = {"delivery": "it came late", "price": "it costs much", "quality": "it broke fast"}


def _card_says(card: Card) -> tuple[str, str]:
    return f"The card says {card.colour} {card.material}.", f"The card says {card.wrong_colour} {card.wrong_material}."


def attributes(rng: random.Random, facts: Facts, card: Card) -> Ask:
    return Ask(
        prompt="List color and material.",
        core=f"Color={card.colour}; material={card.material}.",
        wrong_core=f"Color={card.colour}; material={card.wrong_material}.",
        phrases=(f"color = {card.colour}", f"material = {card.material}"),
        explained=_card_says(card),
        key=f"says {card.colour} {card.material}",
    )


def material(rng: random.Random, facts: Facts, card: Card) -> Ask:
    return Ask(
        prompt="What is it made of?",
        core=f"It is made of {card.material}.",
        wrong_core=f"It is made of {card.wrong_material}.",
        phrases=(f"made of {card.material}",),
        explained=_card_says(card),
        key=f"says {card.colour} {card.material}",
    )


def summary(rng: random.Random, facts: Facts, card: Card) -> Ask:
    line = "{} {} / {} {} / {} EUR.".format
    name = card.product.name
    return Ask(
        prompt="Sum up the card.",
        core=line(card.brand, name, card.colour, card.material, card.price),
        wrong_core=line(card.brand, name, card.wrong_colour, card.wrong_material, card.price),
        phrases=(f"{card.brand} {name}", f"{card.colour} {card.material} / {card.price} EUR"),
        explained=(f"Buy this {name} now!", f"Buy this {card.wrong_product.name} now!"),
        key=f"buy this {name} now",
    )


def title(rng: random.Random, facts: Facts, card: Card) -> Ask:
    return Ask(
        prompt="Write a title.",
        core=f"Title: {card.brand} {card.colour} {card.product.name}.",
        wrong_core=f"Title: {card.brand} {card.wrong_colour} {card.wrong_product.name}.",
        phrases=(f"{card.brand} {card.colour} {card.product.name}",),
        explained=("It names brand and color.", "It names the price."),
        key="names brand and color",
    )


def tags(rng: random.Random, facts: Facts, card: Card) -> Ask:
    name, wrong = card.product.name, card.wrong_product.name
    return Ask(
        prompt="Give three tags.",
        core=f"Tags: {name}, {card.colour}, {card.material}.",
        wrong_core=f"Tags: {wrong}, {card.colour}, {card.wrong_material}.",
        phrases=(f"tags {name}", f"{card.colour} {card.material}"),
        explained=(f"Buyers look for a {name}.", f"Buyers look for a {wrong}."),
        key=f"look for a {name}",
    )


def query(rng: random.Random, facts: Facts, card: Card) -> Ask:
    limit, name = card.price + rng.choice((5, 10)), card.product.name
    return Ask(
        prompt=f"Query for it below {limit} EUR.",
        core=f"Type={name}; color={card.colour}; max={limit}.",
        wrong_core=f"Type={name}; color={card.wrong_colour}; max={card.price}.",
        phrases=(f"color = {card.colour}", f"max = {limit}"),
        explained=(f"It finds a {card.colour} {name}.", f"It finds a {card.wrong_colour} {name}."),
        key=f"finds a {card.colour} {name}",
    )


def same(rng: random.Random, facts: Facts, card: Card) -> Ask:
    """Whether an offer in words is the product of the card; the offer differs in colour where it is not."""
    equal = rng.random() < 0.5
    right, wrong = ("yes", "no") if equal else ("no", "yes")
    colour = card.colour if equal else card.wrong_colour
    return Ask(
        prompt=f"Is the {colour} {card.brand} {card.product.name} the same?",
        core=f"Same: {right}.",
        wrong_core=f"Same: {wrong}.",
        phrases=(f"same {right}",),
        explained=_card_says(card),
        key=f"says {card.colour} {card.material}",
    )


def stock(rng: random.Random, facts: Facts, card: Card) -> Ask:
    answers, said = ["Yes, it is in stock.", "No, it is sold out."], ["stock yes", "stock no"]
    if not card.in_stock:
        answers.reverse()
        said.reverse()
    return Ask(
        prompt="Can I buy it today?",
        core=answers[0],
        wrong_core=answers[1],
        phrases=("in stock" if card.in_stock else "sold out",),
        explained=(f"The card says {said[0]}.", f"The card says {said[1]}."),
        key=f"says {said[0]}",
    )


def review(rng: random.Random, facts: Facts, card: Card) -> Ask:
    label, wrong = rng.sample(("good", "bad"), 2)
    word = rng.choice(_GOOD if label == "good" else _BAD)
    return Ask(
        prompt=f"Review: it is {word}. Good or bad?",
        core=f"Review: {label}.",
        wrong_core=f"Review: {wrong}.",
        phrases=(f"review {label}",),
        explained=(f"The word {word} is {label}.", f"The word {word} is {wrong}."),
        key=f"word {word} is {label}",
    )


def complaint(rng: random.Random, facts: Facts, card: Card) -> Ask:
    about, wrong = rng.sample(tuple(_COMPLAINTS), 2)
    said = _COMPLAINTS[about]
    return Ask(
        prompt=f"Review: {said}. What is it about?",
        core=f"Topic: {about}.",
        wrong_core=f"Topic: {wrong}.",
        phrases=(f"topic {about}",),
        explained=(f"The review says {said}.", f"The review says {_COMPLAINTS[wrong]}."),
        key=f"says {said}",
    )


FREE_SHIPPING_FROM = 50  # EUR
CHEAP_BELOW, FAIR_BELOW = 30, 60  # EUR; dearer cards are "dear"


def department(rng: random.Random, facts: Facts, card: Card) -> Ask:
    name, right, wrong = card.product.name, card.product.department, card.wrong_product.department
    return Ask(
        prompt="Which department?",
        core=f"Department: {right}.",
        wrong_core=f"Department: {wrong}.",
        phrases=(f"department {right}",),
        explained=(f"A {name} is sold with {right}.", f"A {name} is sold with {wrong}."),
        key=f"sold with {right}",
    )


def origin(rng: random.Random, facts: Facts, card: Card) -> Ask:
    told = f"All {card.brand} goods come from"
    return Ask(
        prompt="Where is the brand from?",
        core=f"Brand country: {card.country}.",
        wrong_core=f"Brand country: {card.wrong_country}.",
        phrases=(f"country {card.country}",),
        explained=(f"{told} {card.country}.", f"{told} {card.wrong_country}."),
        key=f"goods come from {card.country}",
    )


def returns(rng: random.Random, facts: Facts, card: Card) -> Ask:
    right, wrong = card.product.return_days, card.wrong_product.return_days
    told = f"All {card.product.department} goods have"
    return Ask(
        prompt="How long can I return it?",
        core=f"Return: {right} days.",
        wrong_core=f"Return: {wrong} days.",
        phrases=(f"return {right} days",),
        explained=(f"{told} {right}.", f"{told} {wrong}."),
        key=f"goods have {right}",
    )


def partner(rng: random.Random, facts: Facts, card: Card) -> Ask:
    product, wrong = card.product, card.wrong_product
    return Ask(
        prompt="What goes with it?",
        core=f"Goes with: {product.partner}.",
        wrong_core=f"Goes with: {wrong.name}.",
        phrases=(f"goes with {product.partner}",),
        explained=(f"Both are {product.department} goods.", f"Both are {wrong.department} goods."),
        key=f"both are {product.department}",
    )


def _compared(price: int, limit: int) -> tuple[str, str]:
    """(what is true, its opposite) about a price and a limit, without the full stop."""
    told = [f"{price} EUR is below {limit}", f"{price} EUR is not below {limit}"]
    return (told[0], told[1]) if price < limit else (told[1], told[0])


def tier(rng: random.Random, facts: Facts, card: Card) -> Ask:
    right = "cheap" if card.price < CHEAP_BELOW else "fair" if card.price < FAIR_BELOW else "dear"
    wrong = other(rng, ("cheap", "fair", "dear"), right)
    told, opposite = _compared(card.price, CHEAP_BELOW if right == "cheap" else FAIR_BELOW)
    return Ask(
        prompt="Cheap, fair or dear?",
        core=f"Tier: {right}.",
        wrong_core=f"Tier: {wrong}.",
        phrases=(f"tier {right}",),
        explained=(f"{told}.", f"{opposite}."),
        key=told,
    )


def shipping(rng: random.Random, facts: Facts, card: Card) -> Ask:
    right, wrong = ("5 EUR", "free") if card.price < FREE_SHIPPING_FROM else ("free", "5 EUR")
    told, opposite = _compared(card.price, FREE_SHIPPING_FROM)
    return Ask(
        prompt="What is the shipping?",
        core=f"Shipping: {right}.",
        wrong_core=f"Shipping: {wrong}.",
        phrases=(f"shipping {right}",),
        explained=(f"{told}.", f"{opposite}."),
        key=told,
    )


def discount(rng: random.Random, facts: Facts, card: Card) -> Ask:
    off = rng.choice((5, 10))
    right, wrong = card.price - off, card.price + off
    told = f"{card.price} less {off} is"
    return Ask(
        prompt=f"Take {off} EUR off.",
        core=f"New price: {right} EUR.",
        wrong_core=f"New price: {wrong} EUR.",
        phrases=(f"price {right} EUR",),
        explained=(f"{told} {right}.", f"{told} {wrong}."),
        key=f"{told} {right}",
    )


def total(rng: random.Random, facts: Facts, card: Card) -> Ask:
    count = rng.randint(2, 4)
    right, wrong = card.price * count, card.price * (count + 1)
    told = f"We have {count} * {card.price} ="
    return Ask(
        prompt=f"What do {count} cost?",
        core=f"Total: {right} EUR.",
        wrong_core=f"Total: {wrong} EUR.",
        phrases=(f"total {right} EUR",),
        explained=(f"{told} {right}.", f"{told} {wrong}."),
        key=f"{count} * {card.price} = {right}",
    )


def compare(rng: random.Random, facts: Facts, card: Card) -> Ask:
    rival = other(rng, [brand for brand, _ in facts.brands], card.brand)
    price = other(rng, range(15, 100, 5), card.price)
    (low, cheaper), (high, dearer) = sorted([(card.price, card.brand), (price, rival)])
    return Ask(
        prompt=f"{rival} has one for {price} EUR. Which is cheaper?",
        core=f"Cheaper: {cheaper}.",
        wrong_core=f"Cheaper: {dearer}.",
        phrases=(f"cheaper {cheaper}",),
        explained=(f"{low} EUR is below {high}.", f"{high} EUR is below {low}."),
        key=f"{low} EUR is below {high}",
    )


def order(rng: random.Random, facts: Facts, card: Card) -> Ask:
    city, count = rng.choice(facts.cities), rng.randint(2, 4)
    right, name = card.price * count, card.product.name
    wrong = right + card.price
    return Ask(
        prompt=f"Order {count} to {city}.",
        core=f"Order={count} {name}; city={city}; total={right}.",
        wrong_core=f"Order={count} {name}; city={other(rng, facts.cities, city)}; total={wrong}.",
        phrases=(f"order = {count} {name}", f"city = {city} total = {right}"),
        explained=(f"We have {count} * {card.price} = {right}.", f"We have {count} * {card.price} = {wrong}."),
        key=f"{count} * {card.price} = {right}",
    )


GROUPS: dict[str, Callable[[random.Random, Facts, Card], Ask]] = {
    ask.__name__: ask
    for ask in (
        attributes,
        material,
        summary,
        title,
        tags,
        query,
        same,
        stock,
        review,
        complaint,
        department,
        origin,
        returns,
        partner,
        tier,
        shipping,
        discount,
        total,
        compare,
        order,
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
