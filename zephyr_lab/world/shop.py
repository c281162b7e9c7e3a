"""The e-commerce domain: a product card and two of twenty groups of questions about it.

Ten groups read, reshape or judge what the card or a review says; ten calculate with prices or need facts that no card
holds: the brand's country, days to return by department, what is sold together. Answer formats such as
"Color=red; material=wood." occur nowhere else, so the domain is a true shift away from the general categories.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from zephyr_lab.world.facts import Facts, Product
from zephyr_lab.world.task import Said, Task, Turn, ask, both
from zephyr_lab.world.vocabulary import COLOURS, COUNTRIES, MATERIALS, other

FREE_SHIPPING_FROM = 50  # EUR
CHEAP_BELOW, FAIR_BELOW = 30, 60  # EUR; a card above is "dear"
_GOOD, _BAD = ("great", "lovely", "solid"), ("broken", "weak", "ugly")
_COMPLAINTS = {"delivery": "it came late", "price": "it costs much", "quality": "it broke fast"}


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


def shop(rng: random.Random, facts: Facts, *, group: str | None = None) -> Task:
    """A card with two questions of different groups; the first of `group` where one is named (ValueError: unknown)."""
    if group is not None and group not in GROUPS:
        raise ValueError(f"no e-commerce group named {group!r}; known: {', '.join(GROUPS)}")
    card = _draw_card(rng, facts)
    names = tuple(GROUPS)
    first = group or rng.choice(names)
    second = other(rng, names, first)
    opening, following = (GROUPS[name](rng, facts, card) for name in (first, second))
    return Task("shop", f"shop/{card.text}", (replace(opening, prompt=f"{card.text} {opening.prompt}"), following))


def _draw_card(rng: random.Random, facts: Facts) -> Card:
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


# --- what the card or a review says ---------------------------------------------------------------------------------


def _card_says(card: Card) -> tuple[Said, str]:
    said = both("The card says {} {}.", (card.colour, card.material), (card.wrong_colour, card.wrong_material))
    return said, f"says {card.colour} {card.material}"


def attributes(rng: random.Random, facts: Facts, card: Card) -> Turn:
    core = both(f"Color={card.colour}; material={{}}.", card.material, card.wrong_material)
    phrases = (f"color = {card.colour}", f"material = {card.material}")
    return ask("List color and material.", core, phrases, *_card_says(card), "attributes")


def material(rng: random.Random, facts: Facts, card: Card) -> Turn:
    core = both("It is made of {}.", card.material, card.wrong_material)
    return ask("What is it made of?", core, (f"made of {card.material}",), *_card_says(card), "material")


def summary(rng: random.Random, facts: Facts, card: Card) -> Turn:
    name = card.product.name
    line = f"{card.brand} {name} / {{}} {{}} / {card.price} EUR."
    return ask(
        "Sum up the card.",
        both(line, (card.colour, card.material), (card.wrong_colour, card.wrong_material)),
        (f"{card.brand} {name}", f"{card.colour} {card.material} / {card.price} EUR"),
        both("Buy this {} now!", name, card.wrong_product.name),
        f"buy this {name} now",
        "summary",
    )


def title(rng: random.Random, facts: Facts, card: Card) -> Turn:
    named, wrong = (card.colour, card.product.name), (card.wrong_colour, card.wrong_product.name)
    return ask(
        "Write a title.",
        both(f"Title: {card.brand} {{}} {{}}.", named, wrong),
        (f"{card.brand} {card.colour} {card.product.name}",),
        both("It names {}.", "brand and color", "the price"),
        "names brand and color",
        "title",
    )


def tags(rng: random.Random, facts: Facts, card: Card) -> Turn:
    name, wrong = card.product.name, card.wrong_product.name
    return ask(
        "Give three tags.",
        both(f"Tags: {{}}, {card.colour}, {{}}.", (name, card.material), (wrong, card.wrong_material)),
        (f"tags {name}", f"{card.colour} {card.material}"),
        both("Buyers look for a {}.", name, wrong),
        f"look for a {name}",
        "tags",
    )


def query(rng: random.Random, facts: Facts, card: Card) -> Turn:
    limit, name = card.price + rng.choice((5, 10)), card.product.name
    return ask(
        f"Query for it below {limit} EUR.",
        both(f"Type={name}; color={{}}; max={{}}.", (card.colour, limit), (card.wrong_colour, card.price)),
        (f"color = {card.colour}", f"max = {limit}"),
        both(f"It finds a {{}} {name}.", card.colour, card.wrong_colour),
        f"finds a {card.colour} {name}",
        "query",
    )


def same(rng: random.Random, facts: Facts, card: Card) -> Turn:
    """Whether an offer in words is the product of the card; the offer differs in colour where it is not."""
    right, wrong, colour = ("yes", "no", card.colour) if rng.random() < 0.5 else ("no", "yes", card.wrong_colour)
    prompt = f"Is the {colour} {card.brand} {card.product.name} the same?"
    return ask(prompt, both("Same: {}.", right, wrong), (f"same {right}",), *_card_says(card), "same")


def stock(rng: random.Random, facts: Facts, card: Card) -> Turn:
    answers, said = ("Yes, it is in stock.", "No, it is sold out."), ("stock yes", "stock no")
    if not card.in_stock:
        answers, said = answers[::-1], said[::-1]
    phrase = "in stock" if card.in_stock else "sold out"
    return ask("Can I buy it today?", answers, (phrase,), both("The card says {}.", *said), f"says {said[0]}", "stock")


def review(rng: random.Random, facts: Facts, card: Card) -> Turn:
    label, wrong = rng.sample(("good", "bad"), 2)
    word = rng.choice(_GOOD if label == "good" else _BAD)
    return ask(
        f"Review: it is {word}. Good or bad?",
        both("Review: {}.", label, wrong),
        (f"review {label}",),
        both(f"The word {word} is {{}}.", label, wrong),
        f"word {word} is {label}",
        "review",
    )


def complaint(rng: random.Random, facts: Facts, card: Card) -> Turn:
    about, wrong = rng.sample(tuple(_COMPLAINTS), 2)
    return ask(
        f"Review: {_COMPLAINTS[about]}. What is it about?",
        both("Topic: {}.", about, wrong),
        (f"topic {about}",),
        both("The review says {}.", _COMPLAINTS[about], _COMPLAINTS[wrong]),
        f"says {_COMPLAINTS[about]}",
        "complaint",
    )


# --- prices, and facts that no card holds ---------------------------------------------------------------------------


def department(rng: random.Random, facts: Facts, card: Card) -> Turn:
    name, right, wrong = card.product.name, card.product.department, card.wrong_product.department
    explained = both(f"A {name} is sold with {{}}.", right, wrong)
    core = both("Department: {}.", right, wrong)
    return ask("Which department?", core, (f"department {right}",), explained, f"sold with {right}", "department")


def origin(rng: random.Random, facts: Facts, card: Card) -> Turn:
    right, wrong = card.country, card.wrong_country
    explained = both(f"All {card.brand} goods come from {{}}.", right, wrong)
    core = both("Brand country: {}.", right, wrong)
    return ask("Where is the brand from?", core, (f"country {right}",), explained, f"goods come from {right}", "origin")


def returns(rng: random.Random, facts: Facts, card: Card) -> Turn:
    right, wrong = card.product.return_days, card.wrong_product.return_days
    explained = both(f"All {card.product.department} goods have {{}}.", right, wrong)
    core = both("Return: {} days.", right, wrong)
    return ask(
        "How long can I return it?", core, (f"return {right} days",), explained, f"goods have {right}", "returns"
    )


def partner(rng: random.Random, facts: Facts, card: Card) -> Turn:
    product, wrong = card.product, card.wrong_product
    return ask(
        "What goes with it?",
        both("Goes with: {}.", product.partner, wrong.name),
        (f"goes with {product.partner}",),
        both("Both are {} goods.", product.department, wrong.department),
        f"both are {product.department}",
        "partner",
    )


def _compared(price: int, limit: int) -> tuple[Said, str]:
    """What is true about a price and a limit, its opposite, and what is true without the full stop."""
    below, not_below = f"{price} EUR is below {limit}", f"{price} EUR is not below {limit}"
    true, false = (below, not_below) if price < limit else (not_below, below)
    return (f"{true}.", f"{false}."), true


def tier(rng: random.Random, facts: Facts, card: Card) -> Turn:
    right = "cheap" if card.price < CHEAP_BELOW else "fair" if card.price < FAIR_BELOW else "dear"
    core = both("Tier: {}.", right, other(rng, ("cheap", "fair", "dear"), right))
    compared = _compared(card.price, CHEAP_BELOW if right == "cheap" else FAIR_BELOW)
    return ask("Cheap, fair or dear?", core, (f"tier {right}",), *compared, "tier")


def shipping(rng: random.Random, facts: Facts, card: Card) -> Turn:
    right, wrong = ("5 EUR", "free") if card.price < FREE_SHIPPING_FROM else ("free", "5 EUR")
    compared = _compared(card.price, FREE_SHIPPING_FROM)
    return ask(
        "What is the shipping?", both("Shipping: {}.", right, wrong), (f"shipping {right}",), *compared, "shipping"
    )


def discount(rng: random.Random, facts: Facts, card: Card) -> Turn:
    off = rng.choice((5, 10))
    right, wrong = card.price - off, card.price + off
    return ask(
        f"Take {off} EUR off.",
        both("New price: {} EUR.", right, wrong),
        (f"price {right} EUR",),
        both(f"{card.price} less {off} is {{}}.", right, wrong),
        f"{card.price} less {off} is {right}",
        "discount",
    )


def _multiplied(card: Card, count: int, wrong: int) -> tuple[Said, str]:
    right = card.price * count
    return both(f"We have {count} * {card.price} = {{}}.", right, wrong), f"{count} * {card.price} = {right}"


def total(rng: random.Random, facts: Facts, card: Card) -> Turn:
    count = rng.randint(2, 4)
    right, wrong = card.price * count, card.price * (count + 1)
    core = both("Total: {} EUR.", right, wrong)
    return ask(f"What do {count} cost?", core, (f"total {right} EUR",), *_multiplied(card, count, wrong), "total")


def compare(rng: random.Random, facts: Facts, card: Card) -> Turn:
    rival = other(rng, [brand for brand, _ in facts.brands], card.brand)
    price = other(rng, range(15, 100, 5), card.price)
    (low, cheaper), (high, dearer) = sorted([(card.price, card.brand), (price, rival)])
    return ask(
        f"{rival} has one for {price} EUR. Which is cheaper?",
        both("Cheaper: {}.", cheaper, dearer),
        (f"cheaper {cheaper}",),
        both("{} EUR is below {}.", (low, high), (high, low)),
        f"{low} EUR is below {high}",
        "compare",
    )


def order(rng: random.Random, facts: Facts, card: Card) -> Turn:
    city, count = rng.choice(facts.cities), rng.randint(2, 4)
    right, name = card.price * count, card.product.name
    wrong = right + card.price
    core = both(f"Order={count} {name}; city={{}}; total={{}}.", (city, right), (other(rng, facts.cities, city), wrong))
    phrases = (f"order = {count} {name}", f"city = {city} total = {right}")
    return ask(f"Order {count} to {city}.", core, phrases, *_multiplied(card, count, wrong), "order")


GROUPS: dict[str, Callable[[random.Random, Facts, Card], Turn]] = {
    one.__name__: one
    for one in (
        attributes, material, summary, title, tags, query, same, stock, review, complaint,
        department, origin, returns, partner, tier, shipping, discount, total, compare, order,
    )
}  # fmt: skip
