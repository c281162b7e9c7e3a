"""E-commerce groups that reckon with prices, or need facts that no card holds."""

import random

from zephyr_lab.world.facts import Facts
from zephyr_lab.world.shop_cards import Ask, Card
from zephyr_lab.world.vocabulary import other

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
