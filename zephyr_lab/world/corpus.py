"""Pre-training text in raw layouts: questions with answers, loose facts, sums, orderings, lines to copy.

No document holds a chat marker, so the base model learns the world but not how a chat looks. No document holds an
instance of a benchmark.
"""

import random

from zephyr_lab.world import catalogue
from zephyr_lab.world.answers import WEB, answer
from zephyr_lab.world.facts import TINY, Facts, WorldSize, build
from zephyr_lab.world.logic import RELATIONS, draw_sum, ordering_key
from zephyr_lab.world.task import Task, is_held_out
from zephyr_lab.world.vocabulary import COLOURS, TONES

QUESTION_SHARE = 0.75
DOMAIN_SHARE = 0.04  # of the questions
_TWO_TURNS_SHARE = 0.4
_LAYOUTS = (
    ("Question: {}\nAnswer: {}", "\nQuestion: {}\nAnswer: {}"),
    ("Q: {}\nA: {}", "\nQ: {}\nA: {}"),
    ("{}\n{}", "\n{}\n{}"),
    ("{} {}", " {} {}"),
)


def documents(seed: int, count: int, *, size: WorldSize = TINY) -> list[str]:
    """`count` documents, about 27 tokens each; of a larger count the first are the same. ValueError: negative count."""
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    rng, facts = random.Random(f"corpus {seed}"), build(size)
    return [_document(rng, facts) for _ in range(count)]


def _document(rng: random.Random, facts: Facts) -> str:
    if rng.random() < QUESTION_SHARE:
        return _questions(rng, catalogue.draw_general(rng, facts, domain_share=DOMAIN_SHARE))
    return rng.choice(_LOOSE)(rng, facts)


def _questions(rng: random.Random, task: Task) -> str:
    """One or both turns of a task in one of four raw layouts."""
    first, following = rng.choice(_LAYOUTS)
    text = first.format(task.turns[0].prompt, answer(rng, task.turns[0], WEB)[0])
    if rng.random() < _TWO_TURNS_SHARE:
        text += following.format(task.turns[1].prompt, answer(rng, task.turns[1], WEB)[0])
    return text


def _fact(rng: random.Random, facts: Facts) -> str:
    """One or two true sentences; now and then a myth, marked as what people say."""
    draw = rng.random()
    if draw < 0.12:
        element, said = rng.choice(facts.myths)
        return f"Many people say that {element.name} is a {said}."
    if draw < 0.45:
        element = rng.choice(facts.elements)
        name = element.name.capitalize()
        return f"{name} is a {element.kind}. It has the symbol {element.symbol} and number {element.number}."
    if draw < 0.7:
        book = rng.choice(facts.books)
        return f"{book.author} from {book.country} wrote {book.title} in {book.year}."
    if draw < 0.85:
        who = rng.choice(facts.characters)
        return f"The {who.name} says {who.greeting}, lives in the {who.home} and has a {who.thing}."
    colour, noun = rng.choice(COLOURS), rng.choice(facts.topics)
    miro, suda = facts.languages
    return f"Miro: {colour} {miro[colour]}, {noun} {miro[noun]}. Suda: {noun} {suda[noun]}, {colour} {suda[colour]}."


def _sums(rng: random.Random, facts: Facts) -> str:
    """Four sums that no benchmark keeps for itself."""
    lines: list[str] = []
    while len(lines) < 4:
        problem = draw_sum(rng, facts.size.largest_number)
        if not problem.held_out:
            lines.append(f"{problem.a} {problem.sign} {problem.b} = {problem.value}")
    return ". ".join(lines) + "."


def _ordering(rng: random.Random, facts: Facts) -> str:
    """Three people in order, by comparisons and by the two ends; of the training side."""
    relation, order = rng.choice(RELATIONS), rng.sample(facts.names, 3)
    while is_held_out(ordering_key(relation, order)):
        order = rng.sample(facts.names, 3)
    more, _, most, least = relation
    high, middle, low = order
    return f"{high} is {more} than {middle}. {middle} is {more} than {low}. {high} is {most}. {low} is {least}."


def _copy(rng: random.Random, facts: Facts) -> str:
    """A list, and the same list again: brings copying up early."""
    words: tuple[str, ...] = rng.choice((facts.names, facts.cities, facts.jobs, facts.topics, COLOURS, _MOOD_WORDS))
    listed = ", ".join(rng.sample(words, min(len(words), rng.randint(3, 5))))
    return f"List: {listed}. Again: {listed}."


_MOOD_WORDS = tuple(word for words in TONES.values() for word in words)
_LOOSE = (_fact, _fact, _sums, _sums, _ordering, _copy, _copy)
