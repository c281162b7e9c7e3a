"""Questions of the categories stem and humanities: facts about elements and books, and about things nobody knows."""

import random

from zephyr_lab.world.facts import Book, Element, Facts
from zephyr_lab.world.task import Check, Task, Turn
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


def stem(rng: random.Random, facts: Facts) -> Task:
    """One fact about an element, two in one, a comparison of two elements, or an element that does not exist."""
    draw = rng.random()
    if draw < UNKNOWN_SHARE:
        return unknown_element(rng, facts)
    if draw < UNKNOWN_SHARE + HEAVIER_SHARE:
        return _heavier(rng, facts)
    ask = "both" if draw < UNKNOWN_SHARE + HEAVIER_SHARE + BOTH_SHARE else rng.choice(("symbol", "number", "kind"))
    element = rng.choice(facts.elements)
    wrong = other(rng, facts.elements, element)
    prompt = rng.choice(ELEMENT_ASKS[ask]).format(element.name)
    follow_up = {"symbol": "number", "number": "symbol", "kind": "number", "both": "kind"}[ask]
    turns = (
        element_turn(ask, prompt, element, wrong),
        element_turn(follow_up, _ELEMENT_FOLLOW_UPS[follow_up], element, wrong),
    )
    return Task("stem", f"stem/{prompt}", turns)


_ELEMENT_FOLLOW_UPS = {
    "symbol": "What is its symbol?",
    "number": "What is its number?",
    "kind": "Is it a metal or a gas?",
}


def element_turn(ask: str, prompt: str, element: Element, wrong: Element) -> Turn:
    """The question `ask` about an element; wrong answers take the facts of another one (or the other kind)."""
    name = element.name.capitalize()
    wrong_kind = METAL_OR_GAS[element.kind]
    explanation = (f"{name} is a {element.kind}.", f"{name} is a {wrong_kind}.", f"{element.name} is a {element.kind}")
    if ask == "symbol":
        core, wrong_core = f"{name} has the symbol {element.symbol}.", f"{name} has the symbol {wrong.symbol}."
        checks = (Check((f"symbol {element.symbol}", f"{element.name} is {element.symbol}")),)
    elif ask == "number":
        core, wrong_core = f"{name} has the number {element.number}.", f"{name} has the number {wrong.number}."
        checks = (Check((f"number {element.number}", f"{element.name} is {element.number}")),)
    elif ask == "both":
        core = f"{name} has the symbol {element.symbol} and number {element.number}."
        wrong_core = f"{name} has the symbol {element.symbol} and number {wrong.number}."
        checks = (Check((f"symbol {element.symbol}",), 0.5), Check((f"number {element.number}",), 0.5))
    else:
        core, wrong_core = f"{name} is a {element.kind}.", f"{name} is a {wrong_kind}."
        checks = (Check((f"{element.name} is a {element.kind}",)),)
        explanation = (
            f"Its symbol is {element.symbol}.",
            f"Its symbol is {wrong.symbol}.",
            f"symbol is {element.symbol}",
        )
    return Turn(prompt, core, wrong_core, checks, *explanation, group=ask)


def _heavier(rng: random.Random, facts: Facts) -> Task:
    """Which of two elements is heavier: two facts in one answer."""
    pair = rng.sample(facts.elements, 2)
    light, heavy = sorted(pair, key=lambda e: e.number)
    explanation = "{} has number {} and {} has {}.".format
    first = Turn(
        prompt=f"Which is heavier, {pair[0].name} or {pair[1].name}?",
        core=f"{heavy.name.capitalize()} is heavier than {light.name}.",
        wrong_core=f"{light.name.capitalize()} is heavier than {heavy.name}.",
        checks=(Check((f"{heavy.name} is heavier",)),),
        explanation=explanation(heavy.name.capitalize(), heavy.number, light.name, light.number),
        wrong_explanation=explanation(heavy.name.capitalize(), light.number, light.name, heavy.number),
        key=f"number {heavy.number} and {light.name} has {light.number}",
        group="heavier",
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
    ask = rng.choice(tuple(BOOK_ASKS))
    prompt = rng.choice(BOOK_ASKS[ask]).format(book.title)
    follow_up = {"author": "year", "year": "author", "country": "author", "both": "country"}[ask]
    turns = (book_turn(ask, prompt, book, wrong), book_turn(follow_up, _BOOK_FOLLOW_UPS[follow_up], book, wrong))
    return Task("humanities", f"humanities/{prompt}", turns)


_BOOK_FOLLOW_UPS = {"author": "Who wrote it?", "year": "When was it written?", "country": "Which country is it from?"}


def book_turn(ask: str, prompt: str, book: Book, wrong: Book) -> Turn:
    """The question `ask` about a book; wrong answers take the facts of another author's book."""
    by_country = (
        f"The author comes from {book.country}.",
        f"The author comes from {wrong.country}.",
        f"comes from {book.country}",
    )
    by_author = (f"The author is {book.author}.", f"The author is {wrong.author}.", f"author is {book.author}")
    if ask == "author":
        core, wrong_core = f"{book.author} wrote {book.title}.", f"{wrong.author} wrote {book.title}."
        checks, explanation = (Check((book.author,)),), by_country
    elif ask == "year":
        core, wrong_core = f"It was written in {book.year}.", f"It was written in {wrong.year}."
        checks, explanation = (Check((f"in {book.year}",)),), by_author
    elif ask == "country":
        core, wrong_core = f"{book.title} is from {book.country}.", f"{book.title} is from {wrong.country}."
        checks, explanation = (Check((f"is from {book.country}",)),), by_author
    else:
        core = f"{book.author} wrote {book.title} in {book.year}."
        wrong_core = f"{wrong.author} wrote {book.title} in {wrong.year}."
        checks, explanation = (Check((book.author,), 0.5), Check((f"in {book.year}",), 0.5)), by_country
    return Turn(prompt, core, wrong_core, checks, *explanation, group=ask)


def unknown_element(rng: random.Random, facts: Facts) -> Task:
    """A question about an element that does not exist: saying so is right, any fact is made up."""
    name, like = rng.choice(facts.unknown_elements), rng.choice(facts.elements)
    ask, follow_up = rng.sample(tuple(_ELEMENT_FOLLOW_UPS), 2)
    prompt = rng.choice(ELEMENT_ASKS[ask]).format(name)
    made_up = Element(name, like.symbol, like.number, like.kind)
    turns = (
        _unknown_turn(prompt, f"I do not know {name}.", element_turn(ask, prompt, made_up, like)),
        _unknown_turn(
            _ELEMENT_FOLLOW_UPS[follow_up],
            f"I do not know its {follow_up}.",
            element_turn(follow_up, prompt, made_up, like),
        ),
    )
    return Task("stem", f"stem/{prompt}", turns)


def unknown_book(rng: random.Random, facts: Facts) -> Task:
    """A question about a title that nobody wrote: saying so is right, any fact is made up."""
    title, like = rng.choice(facts.unknown_titles), rng.choice(facts.books)
    ask, follow_up = rng.sample(tuple(_BOOK_FOLLOW_UPS), 2)
    prompt = rng.choice(BOOK_ASKS[ask]).format(title)
    made_up = Book(title, like.author, like.country, like.year)
    turns = (
        _unknown_turn(prompt, f"I do not know {title}.", book_turn(ask, prompt, made_up, like)),
        _unknown_turn(
            _BOOK_FOLLOW_UPS[follow_up], f"I do not know its {follow_up}.", book_turn(follow_up, prompt, made_up, like)
        ),
    )
    return Task("humanities", f"humanities/{prompt}", turns)


def _unknown_turn(prompt: str, core: str, made_up: Turn) -> Turn:
    return Turn(
        prompt=prompt,
        core=core,
        wrong_core=made_up.core,
        checks=(Check(("not know",)),),
        explanation="It is not in my books.",
        wrong_explanation=made_up.explanation,
        key="not in my books",
        group="unknown",
        known=False,
    )
