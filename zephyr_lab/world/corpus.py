"""Pre-training text in raw layouts: questions with answers, loose facts, sums, orderings, lines to copy.

No document bears a chat marker, so the base model learns the world but not how a chat looks. No document holds an
instance of a benchmark.
"""

import random
from collections.abc import Iterator
from itertools import islice

from zephyr_lab.world import catalogue
from zephyr_lab.world.answers import WEB, Noise, answer
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


def documents(
    seed: int,
    count: int,
    *,
    noise: Noise = WEB,
    question_share: float = QUESTION_SHARE,
    domain_share: float = DOMAIN_SHARE,
    size: WorldSize = TINY,
) -> list[str]:
    """The first `count` documents of `stream`, about 27 tokens each (ValueError: a negative count)."""
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    endless = stream(seed, noise=noise, question_share=question_share, domain_share=domain_share, size=size)
    return list(islice(endless, count))


def stream(
    seed: int,
    *,
    noise: Noise = WEB,
    question_share: float = QUESTION_SHARE,
    domain_share: float = DOMAIN_SHARE,
    size: WorldSize = TINY,
) -> Iterator[str]:
    """Documents without end; take as many as a token budget asks for. Same arguments, same text."""
    rng, facts = random.Random(f"corpus {seed}"), build(size)
    while True:
        if rng.random() < question_share:
            yield _questions(rng, catalogue.draw_general(rng, facts, domain_share=domain_share), noise)
        else:
            yield rng.choice(_LOOSE)(rng, facts)


def _questions(rng: random.Random, task: Task, noise: Noise) -> str:
    """One or both turns of a task in one of four raw layouts."""
    first, following = rng.choice(_LAYOUTS)
    text = first.format(task.turns[0].prompt, answer(rng, task.turns[0], noise)[0])
    if rng.random() < _TWO_TURNS_SHARE:
        text += following.format(task.turns[1].prompt, answer(rng, task.turns[1], noise)[0])
    return text


def _fact(rng: random.Random, facts: Facts) -> str:
    """A line or two of what is true; now and then a myth, told as one."""
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
    """Three people in order, told as a comparison and its two ends; of the training side."""
    relation, order = rng.choice(RELATIONS), rng.sample(facts.names, 3)
    while is_held_out(ordering_key(relation, order)):
        order = rng.sample(facts.names, 3)
    more, _, most, least = relation
    high, middle, low = order
    told = f"{high} is {more} than {middle}. {middle} is {more} than {low}."
    return f"{told} {high} is {most}. {low} is {least}."


def _copy(rng: random.Random, facts: Facts) -> str:
    """A list, and the same list again: brings copying up early."""
    words: tuple[str, ...] = rng.choice((facts.names, facts.cities, facts.jobs, facts.topics, COLOURS, _MOOD_WORDS))
    listed = ", ".join(rng.sample(words, min(len(words), rng.randint(3, 5))))
    return f"List: {listed}. Again: {listed}."


_MOOD_WORDS = tuple(word for words in TONES.values() for word in words)
_LOOSE = (_fact, _fact, _sums, _sums, _ordering, _copy, _copy)
