"""Product cards of the e-commerce domain, and the question about a card as its groups write it."""

import random
from dataclasses import dataclass

from zephyr_lab.world.facts import Facts, Product
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
