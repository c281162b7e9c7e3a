"""Questions of the categories reasoning, math and coding."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from zephyr_lab.world.facts import Facts
from zephyr_lab.world.task import Check, Task, Turn, is_held_out
from zephyr_lab.world.vocabulary import other

# comparative, its opposite, superlative, its opposite
RELATIONS = (
    ("taller", "shorter", "tallest", "shortest"),
    ("older", "younger", "oldest", "youngest"),
    ("faster", "slower", "fastest", "slowest"),
)
WORDS = {"+": "plus", "-": "minus", "*": "times"}
_FUNCTIONS = ("f", "g", "h", "k", "p", "q")
_CODING = ("Code {f} that {does}.", "Write code for {f} that {does}.", "Give code for {f} that {does}.")


def reasoning(rng: random.Random, facts: Facts) -> Task:
    """Half of the rows compare two people, half order three; the second turn asks for the other end."""
    relation = rng.choice(RELATIONS)
    if rng.random() < 0.5:
        return two_people(rng, relation, rng.sample(facts.names, 2))
    return three_people(rng, relation, rng.sample(facts.names, 3))


def ordering_key(relation: tuple[str, ...], order: list[str]) -> str:
    """Instance key of an ordering, highest first, however it is told and whichever end is asked for."""
    return f"reasoning/{relation[0]}/{'/'.join(order)}"


def two_people(rng: random.Random, relation: tuple[str, ...], order: list[str]) -> Task:
    """Two people, `order` highest first: who is more so, who less?"""
    more, less = relation[:2]
    high, low = order
    told = f"{high} is {more} than {low}."
    asked = [(more, high, low), (less, low, high)]
    rng.shuffle(asked)
    turns = []
    for place, (word, right, wrong) in enumerate(asked):
        back = less if word == more else more
        turns.append(
            Turn(
                prompt=f"{told} Who is {word}?" if place == 0 else f"And who is {word}?",
                core=f"{right} is {word}.",
                wrong_core=f"{wrong} is {word}.",
                checks=(Check((f"{right} is {word}", f"answer is {right}")),),
                explanation=f"We know {wrong} is {back}.",
                wrong_explanation=f"We know {right} is {back}.",
                key=f"{wrong} is {back}",
                group="two people",
            )
        )
    return Task("reasoning", ordering_key(relation, order), (turns[0], turns[1]))


def three_people(rng: random.Random, relation: tuple[str, ...], order: list[str]) -> Task:
    """Three people, `order` highest first, told in two comparisons: who is first, who last?"""
    more, _, most, least = relation
    high, middle, low = order
    told = [f"{high} is {more} than {middle}.", f"{middle} is {more} than {low}."]
    rng.shuffle(told)
    asked = [(most, high, low), (least, low, high)]
    rng.shuffle(asked)
    wrong_order = [[middle, high, low], [high, low, middle], [low, middle, high]][rng.randrange(3)]
    turns = []
    for place, (word, right, opposite) in enumerate(asked):
        turns.append(
            Turn(
                prompt=f"{' '.join(told)} Who is {word}?" if place == 0 else f"And who is {word}?",
                core=f"{right} is {word}.",
                wrong_core=f"{rng.choice((middle, opposite))} is {word}.",
                checks=(Check((f"{right} is {word}", f"answer is {right}")),),
                explanation=f"The order is {high}, {middle}, {low}.",
                wrong_explanation=f"The order is {', '.join(wrong_order)}.",
                key=f"order is {high} {middle} {low}",
                group="three people",
            )
        )
    return Task("reasoning", ordering_key(relation, order), (turns[0], turns[1]))


@dataclass(frozen=True, slots=True)
class Sum:
    """a sign b = value."""

    a: int
    sign: str
    b: int
    value: int

    @property
    def key(self) -> str:
        """Instance key; a + b and b + a are one instance."""
        a, b = (self.a, self.b) if self.sign == "-" else sorted((self.a, self.b))
        return f"math/{a}{self.sign}{b}"


def draw_sum(rng: random.Random, largest: int) -> Sum:
    """a + b or a - b >= 0 with both up to `largest`, or a * b with both from 2 to 9."""
    sign = rng.choice("++--*")
    least, most = (2, 9) if sign == "*" else (1, largest)
    a, b = rng.randint(least, most), rng.randint(least, most)
    return _applied(max(a, b), sign, min(a, b)) if sign == "-" else _applied(a, sign, b)


def _applied(a: int, sign: str, b: int) -> Sum:
    return Sum(a, sign, b, {"+": a + b, "-": a - b, "*": a * b}[sign])


def _seen_sum(draw: Callable[[], Sum]) -> Sum:
    """A sum for a second turn. It is never an instance of the benchmarks, whose first turns nobody shall have seen."""
    while is_held_out((problem := draw()).key):
        pass
    return problem


def math(rng: random.Random, facts: Facts) -> Task:
    """a plus, minus or times b; then add d to the result."""
    problem = draw_sum(rng, facts.size.largest_number)
    second = _seen_sum(lambda: _applied(problem.value, "+", rng.randint(1, 9)))
    ask = rng.choice(("What is", "Compute"))
    end = "?" if ask == "What is" else "."
    turns = (
        _sum_turn(rng, f"{ask} {problem.a} {WORDS[problem.sign]} {problem.b}{end}", problem),
        _sum_turn(rng, f"Now add {second.b}.", second),
    )
    return Task("math", problem.key, turns)


def _sum_turn(rng: random.Random, prompt: str, problem: Sum) -> Turn:
    slips = [problem.value + slip for slip in (-10, -2, -1, 1, 2, 10) if problem.value + slip >= 0]
    wrong = rng.choice(slips)
    left = f"{problem.a} {problem.sign} {problem.b}"
    return Turn(
        prompt=prompt,
        core=f"The answer is {problem.value}.",
        wrong_core=f"The answer is {wrong}.",
        checks=(Check((f"is {problem.value}",)),),
        explanation=f"We have {left} = {problem.value}.",
        wrong_explanation=f"We have {left} = {wrong}.",
        key=f"{left} = {problem.value}",
        group="sum",
    )


def coding(rng: random.Random, facts: Facts) -> Task:
    """A one-line function of x; then rename it, or run it."""
    function, number = rng.choice(_FUNCTIONS), rng.randint(2, 9)
    sign = rng.choice("+-*")
    does = {"+": f"adds {number} to x", "-": f"takes {number} from x", "*": f"multiplies x by {number}"}[sign]
    prompt = rng.choice(_CODING).format(f=function, does=does)
    first = _code_turn(rng, prompt, function, sign, number, "code")
    if rng.random() < 0.5:
        renamed = other(rng, _FUNCTIONS, function)
        second = _code_turn(rng, f"Rename it to {renamed}.", renamed, sign, number, "rename")
    else:
        run = _seen_sum(lambda: _applied(rng.randint(number if sign == "-" else 1, 12), sign, number))
        second = _sum_turn(rng, f"Run it on {run.a}.", run)
    return Task("coding", f"coding/{prompt}", (first, second))


def _code_turn(rng: random.Random, prompt: str, function: str, sign: str, number: int, group: str) -> Turn:
    """The wrong function takes another sign and another number; its first half stays right."""
    wrong_sign, wrong_number = other(rng, "+-*", sign), other(rng, range(2, 10), number)
    told = {"+": "adds", "-": "takes away", "*": "multiplies by"}
    return Turn(
        prompt=prompt,
        core=f"Use def {function}(x): return x {sign} {number}.",
        wrong_core=f"Use def {function}(x): return x {wrong_sign} {wrong_number}.",
        checks=(Check((f"def {function}",), 0.4), Check((f"return x {sign} {number}",), 0.6)),
        explanation=f"The code {told[sign]} {number}.",
        wrong_explanation=f"The code {told[wrong_sign]} {wrong_number}.",
        key=f"code {told[sign]} {number}",
        group=group,
    )
