"""What is true in the embedded world: people, elements, books, shops, two little languages.

A world is a pure function of its `WorldSize`: `build(TINY)` has the same facts on every machine.
"""

import random
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_lowercase

from zephyr_lab.world import vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSize:
    """How many of each kind a world holds; the defaults are the tiny world, learnable by 0.4 M parameters.

    A title is a colour and a topic: there are at most six times as many books and unknown titles as topics.
    """

    names: int = 16
    cities: int = 12
    jobs: int = 10
    topics: int = 10
    characters: int = 10
    elements: int = 20
    authors: int = 8
    books: int = 24
    unknown: int = 8  # made-up elements, and titles nobody wrote
    brands: int = 6
    products: int = 16  # a multiple of 8: pairs in four departments
    largest_number: int = 20


TINY = WorldSize()
LARGE = WorldSize(
    names=300,
    cities=150,
    jobs=80,
    topics=80,
    characters=60,
    elements=100,
    authors=100,
    books=400,
    unknown=60,
    brands=60,
    products=160,
    largest_number=100,
)


@dataclass(frozen=True, slots=True)
class Character:
    name: str
    greeting: str
    home: str
    thing: str


@dataclass(frozen=True, slots=True)
class Element:
    name: str
    symbol: str
    number: int
    kind: str  # metal or gas


@dataclass(frozen=True, slots=True)
class Book:
    title: str
    author: str
    country: str
    year: int


@dataclass(frozen=True, slots=True)
class Product:
    name: str
    department: str
    return_days: int
    partner: str  # what it is sold with


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts of one world. `languages`: (Miro, Suda), each English word -> foreign word; Suda puts the noun first.

    `unknown_elements` and `unknown_titles` have no facts: the right answer about them is "I do not know".
    `myths`: (element, kind it is wrongly said to be); pre-training text repeats them, as the web repeats its own.
    """

    size: WorldSize
    names: tuple[str, ...]
    cities: tuple[str, ...]
    jobs: tuple[str, ...]
    topics: tuple[str, ...]
    characters: tuple[Character, ...]
    elements: tuple[Element, ...]
    unknown_elements: tuple[str, ...]
    books: tuple[Book, ...]
    unknown_titles: tuple[str, ...]
    brands: tuple[tuple[str, str], ...]  # (brand, country)
    products: tuple[Product, ...]
    languages: tuple[dict[str, str], dict[str, str]]
    myths: tuple[tuple[Element, str], ...]


@lru_cache(maxsize=8)
def build(size: WorldSize = TINY) -> Facts:
    """The facts of a world of this size; cached, so callers may ask as often as they like."""
    taken = _fixed_words()
    names = vocabulary.extend(vocabulary.NAMES, size.names, purpose="names", taken=taken)
    topics = vocabulary.extend(vocabulary.TOPICS, size.topics, purpose="topics", taken=taken)
    elements = _elements(size.elements, taken)
    books, unknown_titles = _books(size, topics, taken)
    generator = random.Random("brands")
    brands = vocabulary.extend(vocabulary.BRANDS, size.brands, purpose="brands", taken=taken)
    return Facts(
        size=size,
        names=names,
        cities=vocabulary.extend(vocabulary.CITIES, size.cities, purpose="cities", taken=taken),
        jobs=vocabulary.extend(vocabulary.JOBS, size.jobs, purpose="jobs", taken=taken),
        topics=topics,
        characters=_characters(size.characters, taken),
        elements=elements,
        unknown_elements=tuple(
            f"{word}um" for word in vocabulary.extend((), size.unknown, purpose="unknown elements", taken=taken)
        ),
        books=books,
        unknown_titles=unknown_titles,
        brands=tuple((brand, generator.choice(vocabulary.COUNTRIES)) for brand in brands),
        products=_products(size.products, taken),
        languages=_languages(topics, taken),
        myths=tuple((e, "gas" if e.kind == "metal" else "metal") for e in elements[1::3]),
    )


def _fixed_words() -> set[str]:
    """Words of the lists, which invented words must not repeat."""
    names = (vocabulary.NAMES, vocabulary.CITIES, vocabulary.COUNTRIES, vocabulary.JOBS, vocabulary.BRANDS)
    nouns = (vocabulary.TOPICS, vocabulary.COLOURS, vocabulary.MATERIALS, *vocabulary.TONES.values())
    return {word.lower() for words in names + nouns for word in words}


def _characters(count: int, taken: set[str]) -> tuple[Character, ...]:
    columns = zip(*vocabulary.CHARACTERS, strict=True)
    extended = [
        vocabulary.extend(words, count, purpose=f"characters {place}", taken=taken)
        for place, words in enumerate(columns)
    ]
    return tuple(Character(*row) for row in zip(*extended, strict=True))


def _elements(count: int, taken: set[str]) -> tuple[Element, ...]:
    """Real elements first; invented ones carry numbers from 119 on and a symbol of three letters."""
    real = [Element(*row) for row in vocabulary.ELEMENTS[:count]]
    words = vocabulary.extend([e.name for e in real], count, purpose="elements", taken=taken)
    symbols = {e.symbol.lower() for e in real}
    for place, word in enumerate(words[len(real) :]):
        spellings = [word[:3], *(word[:2] + letter for letter in ascii_lowercase)]
        symbol = next(s for s in spellings if s not in symbols)
        symbols.add(symbol)
        real.append(Element(word, symbol.capitalize(), 119 + place, ("metal", "gas")[place % 2]))
    return tuple(real)


def _books(size: WorldSize, topics: tuple[str, ...], taken: set[str]) -> tuple[tuple[Book, ...], tuple[str, ...]]:
    """Books share titles' words ("Red Bridge") with the titles that nobody wrote; author gives country and year."""
    authors = vocabulary.extend(vocabulary.AUTHORS, size.authors, purpose="authors", taken=taken)
    generator = random.Random("books")
    origins = {
        author: (vocabulary.COUNTRIES[place % len(vocabulary.COUNTRIES)], 1800 + 10 * ((7 * place) % 20))
        for place, author in enumerate(authors)
    }
    titles = [f"{colour} {topic}".title() for colour in vocabulary.COLOURS for topic in topics]
    generator.shuffle(titles)
    written_by = [(title, authors[place % len(authors)]) for place, title in enumerate(titles[: size.books])]
    books = tuple(Book(title, author, *origins[author]) for title, author in written_by)
    return books, tuple(titles[size.books : size.books + size.unknown])


def _products(count: int, taken: set[str]) -> tuple[Product, ...]:
    products = []
    for department, days, listed in vocabulary.DEPARTMENTS:
        names = vocabulary.extend(listed, count // 4, purpose=f"products {department}", taken=taken)
        for place, name in enumerate(names):
            products.append(Product(name, department, days, names[place ^ 1]))
    return tuple(products)


def _languages(topics: tuple[str, ...], taken: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    english = vocabulary.COLOURS + topics
    miro = vocabulary.extend((), len(english), purpose="Miro", taken=taken)
    suda = vocabulary.extend((), len(english), purpose="Suda", taken=taken)
    return dict(zip(english, miro, strict=True)), dict(zip(english, suda, strict=True))
