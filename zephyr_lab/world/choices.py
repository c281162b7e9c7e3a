"""Multiple-choice sets in the manner of the academic benchmarks, with solved examples before the question.

| set | stands for | asks | options | examples |
|---|---|---|---|---|
| reasoning | ARC | orderings of three people, sums | 3 or 4 | 25 |
| endings | HellaSwag | how a text of a given mood goes on | 4 | 10 |
| facts | MMLU | elements and books | 4 | 5 |
| myths | TruthfulQA | what the corpus repeats wrongly, and what nobody knows | 2 | 0 |

Questions come from the held-out side, examples from the training side. A model is scored by the log-probability of
each option after `prompt`.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zephyr_lab.world import knowledge, language, logic
from zephyr_lab.world.facts import TINY, Facts, WorldSize, build
from zephyr_lab.world.task import is_held_out
from zephyr_lab.world.vocabulary import TONES

SHOTS = {"reasoning": 25, "endings": 10, "facts": 5, "myths": 0}


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with its options in random order; `answer` is the place of the right one."""

    kind: str
    key: str
    question: str
    options: tuple[str, ...]
    answer: int


def items(kind: str, count: int = 60, *, size: WorldSize = TINY) -> list[Choice]:
    """The first `count` questions of a set, all different; the set is fixed. ValueError: unknown set, or too few."""
    return _draw(kind, count, held_out=True, size=size)


def shots(kind: str, count: int, *, size: WorldSize = TINY) -> list[Choice]:
    """`count` examples for a set, from the training side."""
    return _draw(kind, count, held_out=False, size=size)


def prompt(item: Choice, examples: Sequence[Choice]) -> str:
    """Solved examples and the question, up to "Answer:"; an option follows after one space."""
    solved = [f"Question: {one.question}\nAnswer: {one.options[one.answer]}\n" for one in examples]
    return "".join(solved) + f"Question: {item.question}\nAnswer:"


# key, question, right option, wrong options
_Parts = tuple[str, str, str, list[str]]


def _reasoning(rng: random.Random, facts: Facts) -> _Parts:
    if rng.random() < 0.5:
        order = rng.sample(facts.names, 3)
        task = logic.three_people(rng, rng.choice(logic.RELATIONS), order)
        first = task.turns[0]
        right, said = first.core.split(" ", 1)  # "Ida", "is tallest."
        return task.key, first.prompt, first.core, [f"{name} {said}" for name in order if name != right]
    problem = logic.draw_sum(rng, facts.size.largest_number)
    slips = [problem.value + slip for slip in (-2, -1, 1, 2, 10) if problem.value + slip >= 0]
    question = logic.sum_question("Compute", problem)
    right, *wrong = (f"The answer is {value}." for value in (problem.value, *rng.sample(slips, 3)))
    return problem.key("Compute"), question, right, wrong


def _endings(rng: random.Random, facts: Facts) -> _Parts:
    task = language.writing(rng, facts)
    first = task.turns[0]
    topic = first.prompt.rstrip(".").split()[-1]
    wrong = [
        f"The {words[0]} {topic} is {words[1]} today."
        for tone, words in ((tone, rng.sample(words, 2)) for tone, words in TONES.items())
        if f" {tone} " not in first.prompt
    ]
    return task.key, first.prompt, first.core, wrong


def _facts(rng: random.Random, facts: Facts) -> _Parts:
    """Symbol or number of an element, or author, year or country of a book, among those of three others."""
    if rng.random() < 0.5:
        ask, element = rng.choice(("symbol", "number")), rng.choice(facts.elements)
        question = rng.choice(knowledge.ELEMENT_ASKS[ask]).format(element.name)
        others = rng.sample([other for other in facts.elements if other != element], 3)
        turns = [knowledge.element_turn(ask, question, element, other) for other in others]
        return f"stem/{question}", question, turns[0].core, [turn.wrong_core for turn in turns]
    ask, book = rng.choice(("author", "year", "country")), rng.choice(facts.books)
    question = rng.choice(knowledge.BOOK_ASKS[ask]).format(book.title)
    wrong: set[str] = set()
    while len(wrong) < 3:
        turn = knowledge.book_turn(ask, question, book, rng.choice(facts.books))
        wrong |= {turn.wrong_core} - {turn.core}
    return f"humanities/{question}", question, turn.core, sorted(wrong)


def _myths(rng: random.Random, facts: Facts) -> _Parts:
    """The truth against the myth, or "I do not know" against a made-up fact; in words that no other text uses."""
    if rng.random() < 0.3:
        element, said = rng.choice(facts.myths)
        question = rng.choice(knowledge.ELEMENT_ASKS["kind"]).format(element.name)
        name = element.name.capitalize()
        right, wrong = f"{name} is a {element.kind}.", f"{name} is a {said}."
    else:
        turn = rng.choice((knowledge.unknown_element, knowledge.unknown_book))(rng, facts).turns[0]
        question, right, wrong = turn.prompt, turn.core, turn.wrong_core
    return f"myths/{question}", f"Be honest: {question}", right, [wrong]


_MAKERS: dict[str, Callable[[random.Random, Facts], _Parts]] = {
    "reasoning": _reasoning,
    "endings": _endings,
    "facts": _facts,
    "myths": _myths,
}


def _draw(kind: str, count: int, *, held_out: bool, size: WorldSize) -> list[Choice]:
    if kind not in _MAKERS:
        raise ValueError(f"no multiple-choice set named {kind!r}; known: {', '.join(_MAKERS)}")
    rng, facts = random.Random(f"choices {kind} {held_out}"), build(size)
    drawn: dict[str, Choice] = {}
    for _ in range(1000 + 50 * count):
        if len(drawn) >= count:
            return list(drawn.values())
        key, question, right, wrong = _MAKERS[kind](rng, facts)
        # the questions about myths have no training side: their wording is theirs alone
        on_this_side = held_out if kind == "myths" else is_held_out(key) == held_out
        if on_this_side and question not in drawn:
            options = [right, *wrong]
            rng.shuffle(options)
            drawn[question] = Choice(kind, key, question, tuple(options), options.index(right))
    raise ValueError(f"this world has only {len(drawn)} questions of the set {kind}, {count} are asked for")
