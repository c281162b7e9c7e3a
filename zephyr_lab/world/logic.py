"""Questions of the categories reasoning, math and coding."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from zephyr_lab.world.facts import Facts
from zephyr_lab.world.task import Check, Task, Turn, ask, both, is_held_out
from zephyr_lab.world.vocabulary import other

# comparative, its opposite, superlative, its opposite
RELATIONS = (
    ("taller", "shorter", "tallest", "shortest"),
    ("older", "younger", "oldest", "youngest"),
    ("faster", "slower", "fastest", "slowest"),
)
_WORDS = {"+": "plus", "-": "minus", "*": "times"}
_FUNCTIONS = ("f", "g", "h", "k", "p", "q")
_Steps = tuple[tuple[str, int], ...]
_ASKED = {"+": "adds {} to x", "-": "takes {} from x", "*": "multiplies x by {}"}
_DOES = {"+": "adds {}", "-": "takes away {}", "*": "multiplies by {}"}
_CODING = ("Code {f} that {does}.", "Write code for {f} that {does}.", "Give code for {f} that {does}.")


def reasoning(rng: random.Random, facts: Facts) -> Task:
    """Half of the rows compare two people, half order three; the second turn asks for the other end."""
    relation = rng.choice(RELATIONS)
    if rng.random() < 0.5:
        return two_people(rng, relation, rng.sample(facts.names, 2))
    return three_people(rng, relation, rng.sample(facts.names, 3))


def ordering_key(relation: tuple[str, ...], order: list[str]) -> str:
    """Instance key of an ordering, highest first, however it is worded and whichever end is asked for."""
    return f"reasoning/{relation[0]}/{'/'.join(order)}"


def two_people(rng: random.Random, relation: tuple[str, ...], order: list[str]) -> Task:
    """Two people, `order` highest first: who is more so, who less?"""
    more, less = relation[:2]
    high, low = order
    asked = [(more, high, low), (less, low, high)]
    rng.shuffle(asked)
    turns = []
    for place, (word, right, wrong) in enumerate(asked):
        back = less if word == more else more
        turns.append(
            ask(
                f"And who is {word}?" if place else f"{high} is {more} than {low}. Who is {word}?",
                both(f"{{}} is {word}.", right, wrong),
                (Check((f"{right} is {word}", f"answer is {right}")),),
                both(f"We know {{}} is {back}.", wrong, right),
                f"{wrong} is {back}",
                "two people",
            )
        )
    return Task("reasoning", ordering_key(relation, order), (turns[0], turns[1]))


def three_people(rng: random.Random, relation: tuple[str, ...], order: list[str]) -> Task:
    """Three people, `order` highest first, described by two comparisons: who is first, who last?"""
    more, _, most, least = relation
    high, middle, low = order
    comparisons = [f"{high} is {more} than {middle}.", f"{middle} is {more} than {low}."]
    rng.shuffle(comparisons)
    asked = [(most, high, low), (least, low, high)]
    rng.shuffle(asked)
    wrong_order = [[middle, high, low], [high, low, middle], [low, middle, high]][rng.randrange(3)]
    turns = []
    for place, (word, right, opposite) in enumerate(asked):
        turns.append(
            ask(
                f"And who is {word}?" if place else f"{' '.join(comparisons)} Who is {word}?",
                both(f"{{}} is {word}.", right, rng.choice((middle, opposite))),
                (Check((f"{right} is {word}", f"answer is {right}")),),
                both("The order is {}, {}, {}.", tuple(order), tuple(wrong_order)),
                f"order is {high} {middle} {low}",
                "three people",
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
    def by_heart(self) -> bool:
        """Small sums are facts that one knows, as the symbols of elements are; larger ones have to be worked out."""
        return max(self.a, self.b) < 10

    def key(self, ask: str) -> str:
        """Instance key of the question: with its wording for sums known by heart; any wording is one for the others.

        a + b and b + a are two instances: who has seen one may infer the other.
        """
        return f"math/{ask} {self.a}{self.sign}{self.b}" if self.by_heart else f"math/{self.a}{self.sign}{self.b}"

    @property
    def held_out(self) -> bool:
        """Whether no training text may show this sum in any form."""
        return not self.by_heart and is_held_out(self.key(""))


def draw_sum(rng: random.Random, largest: int) -> Sum:
    """a plus or minus b: both digits, or one number up to `largest` and a digit; or a * b, both from 2 to 9."""
    draw = rng.random()
    if draw < 0.2:
        return _applied(rng.randint(2, 9), "*", rng.randint(2, 9))
    a, b = rng.sample((rng.randint(1, 9 if draw < 0.6 else largest), rng.randint(1, 9)), 2)
    return _applied(a, "+", b) if rng.random() < 0.5 else _applied(max(a, b), "-", min(a, b))


def _applied(a: int, sign: str, b: int) -> Sum:
    return Sum(a, sign, b, {"+": a + b, "-": a - b, "*": a * b}[sign])


def _seen_sum(draw: Callable[[], Sum]) -> Sum:
    """A sum for a second turn. It is never one that the benchmarks keep from training text."""
    while (problem := draw()).held_out:
        pass
    return problem


def sum_question(ask: str, problem: Sum) -> str:
    """The question as text; `ask` is "What is" or "Compute"."""
    return f"{ask} {problem.a} {_WORDS[problem.sign]} {problem.b}{'?' if ask == 'What is' else '.'}"


def math(rng: random.Random, facts: Facts) -> Task:
    """a plus, minus or times b; then add d to the result."""
    ask, problem = rng.choice(("What is", "Compute")), draw_sum(rng, facts.size.largest_number)
    second = _seen_sum(lambda: _applied(problem.value, "+", rng.randint(1, 9)))
    turns = (_sum_turn(rng, sum_question(ask, problem), problem), _sum_turn(rng, f"Now add {second.b}.", second))
    return Task("math", problem.key(ask), turns)


def _sum_turn(rng: random.Random, prompt: str, problem: Sum) -> Turn:
    value, left = problem.value, f"{problem.a} {problem.sign} {problem.b}"
    wrong = rng.choice([value + slip for slip in (-10, -2, -1, 1, 2, 10) if value + slip >= 0])
    explained = both(f"We have {left} = {{}}.", value, wrong)
    return ask(prompt, both("The answer is {}.", value, wrong), (f"is {value}",), explained, f"{left} = {value}", "sum")


def coding(rng: random.Random, facts: Facts) -> Task:
    """A one-line function of x, of one step or two; then rename it, or run it."""
    function = rng.choice(_FUNCTIONS)
    signs = (rng.choice("+-*"),) if rng.random() < 0.6 else (rng.choice("+-"), rng.choice("+-"))
    steps = tuple((sign, rng.randint(2, 9)) for sign in signs)
    asked = " and ".join(_ASKED[sign].format(number) for sign, number in steps)
    prompt = rng.choice(_CODING).format(f=function, does=asked)
    first = _code_turn(rng, prompt, function, steps, "code")
    if len(steps) > 1 or rng.random() < 0.5:
        renamed = other(rng, _FUNCTIONS, function)
        second = _code_turn(rng, f"Rename it to {renamed}.", renamed, steps, "rename")
    else:
        sign, number = steps[0]
        run = _seen_sum(lambda: _applied(rng.randint(number if sign == "-" else 1, 12), sign, number))
        second = _sum_turn(rng, f"Run it on {run.a}.", run)
    return Task("coding", f"coding/{prompt}", (first, second))


def _code_turn(rng: random.Random, prompt: str, function: str, steps: _Steps, group: str) -> Turn:
    """The wrong function goes wrong in its last step, in sign and number; its name stays right."""
    sign, number = steps[-1]
    wrong = (*steps[:-1], (other(rng, "+-" if len(steps) > 1 else "+-*", sign), other(rng, range(2, 10), number)))
    body, wrong_body = (" ".join(f"{sign} {number}" for sign, number in some) for some in (steps, wrong))
    does, wrong_does = (" and ".join(_DOES[sign].format(number) for sign, number in some) for some in (steps, wrong))
    return ask(
        prompt,
        both(f"Use def {function}(x): return x {{}}.", body, wrong_body),
        (Check((f"def {function}",), 0.4), Check((f"return x {body}",), 0.6)),
        both("The code {}.", does, wrong_does),
        f"code {does}",
        group,
    )
