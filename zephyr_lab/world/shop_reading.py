"""E-commerce groups that read, reshape or judge what a card or a review says."""

import random

from zephyr_lab.world.facts import Facts
from zephyr_lab.world.shop_cards import Ask, Card

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
