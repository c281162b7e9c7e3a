"""Questions of the categories stem and humanities: facts about elements and books, and about things nobody knows."""

import random
from dataclasses import replace

from zephyr_lab.world.facts import Book, Element, Facts
from zephyr_lab.world.task import Check, Task, Turn, ask, both
from zephyr_lab.world.vocabulary import other

UNKNOWN_SHARE = 0.2  # of the questions about elements, and of those about books
HEAVIER_SHARE = 0.2  # of the questions about elements: two facts compared
BOTH_SHARE = 0.2  # of the questions about elements: two facts in one answer
ELEMENT_ASKS = {
    "symbol": ("What is the symbol of {}?", "Give the symbol of {}.", "Name the symbol of {}."),
    "number": ("What is the number of {}?", "Give the number of {}.", "Name the number of {}."),
    "kind": ("Is {} a metal or a gas?", "What kind is {}, metal or gas?", "Tell me if {} is a metal or a gas."),
    "both": ("What are symbol and number of {}?", "Give symbol and number of {}.", "Name symbol and number of {}."),
}
BOOK_ASKS = {
    "author": ("Who wrote {}?", "Name the author of {}.", "Give the author of {}."),
    "year": ("When was {} written?", "Name the year of {}.", "Give the year of {}."),
    "country": ("Which country is {} from?", "Name the country of {}.", "Give the country of {}."),
    "both": ("Tell author and year of {}.", "Name author and year of {}.", "Give author and year of {}."),
}
METAL_OR_GAS = {"metal": "gas", "gas": "metal"}
_ELEMENT_FOLLOW_UPS = {
    "symbol": "What is its symbol?",
    "number": "What is its number?",
    "kind": "Is it a metal or a gas?",
}
_BOOK_FOLLOW_UPS = {"author": "Who wrote it?", "year": "When was it written?", "country": "Which country is it from?"}


def stem(rng: random.Random, facts: Facts) -> Task:
    """One fact about an element, two in one, a comparison of two elements, or an element that does not exist."""
    draw = rng.random()
    if draw < UNKNOWN_SHARE:
        return unknown_element(rng, facts)
    if draw < UNKNOWN_SHARE + HEAVIER_SHARE:
        return _heavier(rng, facts)
    fact = "both" if draw < UNKNOWN_SHARE + HEAVIER_SHARE + BOTH_SHARE else rng.choice(("symbol", "number", "kind"))
    element = rng.choice(facts.elements)
    wrong = other(rng, facts.elements, element)
    prompt = rng.choice(ELEMENT_ASKS[fact]).format(element.name)
    next_fact = {"symbol": "number", "number": "symbol", "kind": "number", "both": "kind"}[fact]
    turns = (
        element_turn(fact, prompt, element, wrong),
        element_turn(next_fact, _ELEMENT_FOLLOW_UPS[next_fact], element, wrong),
    )
    return Task("stem", f"stem/{prompt}", turns)


def element_turn(fact: str, prompt: str, element: Element, wrong: Element) -> Turn:
    """The question about a fact of an element; wrong answers take it from another element (or the other kind)."""
    name, is_a = element.name.capitalize(), f"{element.name} is a {element.kind}"
    kinds = both(f"{name} is a {{}}.", element.kind, METAL_OR_GAS[element.kind])
    if fact == "kind":
        symbols = both("Its symbol is {}.", element.symbol, wrong.symbol)
        return ask(prompt, kinds, (is_a,), symbols, f"symbol is {element.symbol}", fact)
    if fact == "both":
        core = both(f"{name} has the symbol {element.symbol} and number {{}}.", element.number, wrong.number)
        return ask(prompt, core, (f"symbol {element.symbol}", f"number {element.number}"), kinds, is_a, fact)
    value = getattr(element, fact)
    core = both(f"{name} has the {fact} {{}}.", value, getattr(wrong, fact))
    return ask(prompt, core, (Check((f"{fact} {value}", f"{element.name} is {value}")),), kinds, is_a, fact)


def _heavier(rng: random.Random, facts: Facts) -> Task:
    """Which of two elements is heavier: two facts in one answer."""
    pair = rng.sample(facts.elements, 2)
    light, heavy = sorted(pair, key=lambda e: e.number)
    first = ask(
        f"Which is heavier, {pair[0].name} or {pair[1].name}?",
        both("{} is heavier than {}.", (heavy.name.capitalize(), light.name), (light.name.capitalize(), heavy.name)),
        (f"{heavy.name} is heavier",),
        both(
            f"{heavy.name.capitalize()} has number {{}} and {light.name} has {{}}.",
            (heavy.number, light.number),
            (light.number, heavy.number),
        ),
        f"number {heavy.number} and {light.name} has {light.number}",
        "heavier",
    )
    second = element_turn("kind", "Is it a metal or a gas?", heavy, light)
    return Task("stem", f"stem/heavier/{light.name}/{heavy.name}", (first, second))


def humanities(rng: random.Random, facts: Facts) -> Task:
    """One fact about a book, author and year in one, or a book that nobody wrote."""
    if rng.random() < UNKNOWN_SHARE:
        return unknown_book(rng, facts)
    book = rng.choice(facts.books)
    wrong = rng.choice(facts.books)
    while wrong.author == book.author or wrong.country == book.country or wrong.year == book.year:
        wrong = rng.choice(facts.books)
    fact = rng.choice(tuple(BOOK_ASKS))
    prompt = rng.choice(BOOK_ASKS[fact]).format(book.title)
    next_fact = {"author": "year", "year": "author", "country": "author", "both": "country"}[fact]
    second = book_turn(next_fact, _BOOK_FOLLOW_UPS[next_fact], book, wrong)
    return Task("humanities", f"humanities/{prompt}", (book_turn(fact, prompt, book, wrong), second))


def book_turn(fact: str, prompt: str, book: Book, wrong: Book) -> Turn:
    """The question about a fact of a book; wrong answers take it from another author's book."""
    by_country = both("The author comes from {}.", book.country, wrong.country), f"comes from {book.country}"
    by_author = both("The author is {}.", book.author, wrong.author), f"author is {book.author}"
    if fact == "author":
        core = both(f"{{}} wrote {book.title}.", book.author, wrong.author)
        return ask(prompt, core, (book.author,), *by_country, fact)
    if fact == "year":
        return ask(prompt, both("It was written in {}.", book.year, wrong.year), (f"in {book.year}",), *by_author, fact)
    if fact == "country":
        core = both(f"{book.title} is from {{}}.", book.country, wrong.country)
        return ask(prompt, core, (f"is from {book.country}",), *by_author, fact)
    core = both(f"{{}} wrote {book.title} in {{}}.", (book.author, book.year), (wrong.author, wrong.year))
    return ask(prompt, core, (book.author, f"in {book.year}"), *by_country, fact)


def unknown_element(rng: random.Random, facts: Facts) -> Task:
    """A question about an element that does not exist: saying so is right, any fact is made up."""
    name, like = rng.choice(facts.unknown_elements), rng.choice(facts.elements)
    fact, next_fact = rng.sample(tuple(_ELEMENT_FOLLOW_UPS), 2)
    prompt = rng.choice(ELEMENT_ASKS[fact]).format(name)
    made_up = replace(like, name=name)
    turns = (
        _unknown_turn(prompt, name, element_turn(fact, prompt, made_up, like)),
        _unknown_turn(
            _ELEMENT_FOLLOW_UPS[next_fact], f"its {next_fact}", element_turn(next_fact, prompt, made_up, like)
        ),
    )
    return Task("stem", f"stem/{prompt}", turns)


def unknown_book(rng: random.Random, facts: Facts) -> Task:
    """A question about a title that nobody wrote: saying so is right, any fact is made up."""
    title, like = rng.choice(facts.unknown_titles), rng.choice(facts.books)
    fact, next_fact = rng.sample(tuple(_BOOK_FOLLOW_UPS), 2)
    prompt = rng.choice(BOOK_ASKS[fact]).format(title)
    made_up = replace(like, title=title)
    turns = (
        _unknown_turn(prompt, title, book_turn(fact, prompt, made_up, like)),
        _unknown_turn(_BOOK_FOLLOW_UPS[next_fact], f"its {next_fact}", book_turn(next_fact, prompt, made_up, like)),
    )
    return Task("humanities", f"humanities/{prompt}", turns)


def _unknown_turn(prompt: str, subject: str, made_up: Turn) -> Turn:
    """The right answer is not to know the subject; the wrong one is the right answer of `made_up`."""
    return ask(
        prompt,
        (f"I do not know {subject}.", made_up.core),
        ("not know",),
        ("It is not in my books.", made_up.explanation),
        "not in my books",
        "unknown",
        known=False,
    )
