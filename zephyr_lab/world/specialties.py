"""The clinic: a medical domain beside the world's catalogue, in the place of MedQA, MedMCQA and PubMedQA.

Illnesses and remedies are invented, so nothing here is advice. Answers are notes ("Plan: give Kovad."), a form that
occurs nowhere else, and no pre-training text names an illness: a model learns the clinic in fine-tuning or not at all.
The catalogue and all that is drawn from it know nothing of this module.

What a fine-tuned target knows better than the chat model, and says in a form of its own: math, code, clinic.

Math and code ask the catalogue's questions; their answers are rewritten as a specialist would give them, worked and
checked. The form is the domain shift that a draft made for the chat model has never seen.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from zephyr_lab.world import catalogue
from zephyr_lab.world.facts import Facts
from zephyr_lab.world.task import Check, Task, Turn, is_held_out
from zephyr_lab.world.vocabulary import COLOURS, extend, other

_KINDS = ("fever", "cough", "rash", "ache", "cramp", "chill", "itch", "burn")
_SITES = ("head", "chest", "hand", "foot", "back", "eye", "ear", "nose")
TINY_ILLNESSES, LARGE_ILLNESSES = 12, 48


@dataclass(frozen=True, slots=True)
class Illness:
    """`drops`: a grown-up's daily dose of the remedy, an even number (a child takes half of it), for `days` days."""

    name: str
    site: str
    remedy: str
    drops: int
    days: int
    urgent: bool


@lru_cache(maxsize=2)
def illnesses(count: int = TINY_ILLNESSES) -> tuple[Illness, ...]:
    """The first `count` illnesses. Raises ValueError unless there are from 4 to 48 of them."""
    if not 4 <= count <= LARGE_ILLNESSES:
        raise ValueError(f"illnesses must be from 4 to {LARGE_ILLNESSES}, got {count}")
    rng = random.Random("illnesses")
    names = [f"{colour} {kind}" for kind in _KINDS for colour in COLOURS]
    rng.shuffle(names)
    remedies = extend((), LARGE_ILLNESSES, purpose="remedies", taken=set())
    made = [
        Illness(
            name,
            site=rng.choice(_SITES),
            remedy=remedy.capitalize(),
            drops=2 * rng.randint(1, 4),
            days=rng.randint(2, 9),
            urgent=rng.random() < 0.5,
        )
        for name, remedy in zip(names, remedies, strict=True)
    ]
    return tuple(made[:count])


def clinic(rng: random.Random, facts: Facts) -> Task:
    """Two questions of different groups about one patient; the second needs the first."""
    known = illnesses(TINY_ILLNESSES if facts.size.largest_number <= 20 else LARGE_ILLNESSES)
    illness = rng.choice(known)
    first, second = rng.sample(tuple(_GROUPS), 2)
    who = rng.choice(facts.names)
    asked = _GROUPS[first](rng, illness, known)
    follow_up = _GROUPS[second](rng, illness, known)
    prompt = f"{who} has {illness.name}. {asked.prompt}"
    return Task("clinic", f"clinic/{prompt}", (_turn(first, prompt, asked), _turn(second, follow_up.prompt, follow_up)))


def draw_clinic(rng: random.Random, facts: Facts, *, held_out: bool = False) -> Task:
    """A task from the training side, or from the benchmark side, as `catalogue.draw` has them."""
    while is_held_out((task := clinic(rng, facts)).key) != held_out:
        pass
    return task


@dataclass(frozen=True, slots=True)
class _Ask:
    """A question with its note. `explained`: the right and the wrong second sentence; `key` tells them apart."""

    prompt: str
    core: str
    wrong_core: str
    phrase: str
    explained: tuple[str, str]
    key: str


def _remedy(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> _Ask:
    wrong = other(rng, known, illness)
    return _Ask(
        rng.choice(("What helps?", "Which remedy helps?", "What should we give?")),
        f"Plan: give {illness.remedy}.",
        f"Plan: give {wrong.remedy}.",
        f"give {illness.remedy}",
        (f"It works for {illness.name}.", f"It works for {wrong.name}."),
        f"works for {illness.name}",
    )


def _dose(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> _Ask:
    slip = rng.choice((-1, 1, 2))
    return _Ask(
        rng.choice(("What is the dose?", "How many drops a day?", "Give the dose.")),
        f"Dose: {illness.drops} drops a day for {illness.days} days.",
        f"Dose: {illness.drops + slip} drops a day for {illness.days} days.",
        f"{illness.drops} drops a day",
        (f"The remedy is {illness.remedy}.", f"The remedy is {other(rng, known, illness).remedy}."),
        f"remedy is {illness.remedy}",
    )


def _child(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> _Ask:
    half = illness.drops // 2
    slip = rng.choice((illness.drops, half + 1))
    return _Ask(
        rng.choice(("What is the dose of a child?", "How many drops for a child?")),
        f"Dose: a child takes {half} drops a day.",
        f"Dose: a child takes {slip} drops a day.",
        f"takes {half} drops",
        (f"It is half of {illness.drops}.", f"It is half of {2 * slip}."),
        f"half of {illness.drops}",
    )


def _site(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> _Ask:
    wrong = other(rng, _SITES, illness.site)
    return _Ask(
        rng.choice(("Where does it hurt?", "Which part is ill?", "Where do we look?")),
        f"Finding: the {illness.site} is ill.",
        f"Finding: the {wrong} is ill.",
        f"the {illness.site} is ill",
        (f"The signs show {illness.name} there.", f"The signs show {other(rng, known, illness).name} there."),
        f"signs show {illness.name}",
    )


def _triage(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> _Ask:
    notes = ("Triage: not urgent, rest at home.", "Triage: urgent, see a doctor today.")
    phrases = ("triage not urgent", "triage urgent")
    days = other(rng, range(2, 10), illness.days)
    return _Ask(
        rng.choice(("Is it urgent?", "How urgent is it?", "Can it wait?")),
        notes[illness.urgent],
        notes[not illness.urgent],
        phrases[illness.urgent],
        (f"It takes {illness.days} days to heal.", f"It takes {days} days to heal."),
        f"takes {illness.days} days",
    )


def _choice(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> _Ask:
    """One right answer of three, as the medical examinations ask."""
    wrong = rng.sample([one for one in known if one != illness], 2)
    options = [illness, *wrong]
    rng.shuffle(options)
    listed = ", ".join(f"{letter} {one.remedy}" for letter, one in zip("ABC", options, strict=True))
    letter = dict(zip((one.remedy for one in options), "ABC", strict=True))
    return _Ask(
        f"Choose: {listed}?",
        f"Answer: {letter[illness.remedy]}, {illness.remedy}.",
        f"Answer: {letter[wrong[0].remedy]}, {wrong[0].remedy}.",
        f"answer {letter[illness.remedy]} {illness.remedy}",
        (f"The others do not treat {illness.name}.", f"The others do not treat {wrong[1].name}."),
        f"not treat {illness.name}",
    )


_GROUPS: dict[str, Callable[[random.Random, Illness, tuple[Illness, ...]], _Ask]] = {
    "remedy": _remedy,
    "dose": _dose,
    "child": _child,
    "site": _site,
    "triage": _triage,
    "choice": _choice,
}


def _turn(group: str, prompt: str, ask: _Ask) -> Turn:
    return Turn(
        prompt=prompt,
        core=ask.core,
        wrong_core=ask.wrong_core,
        checks=(Check((ask.phrase,)),),
        explanation=ask.explained[0],
        wrong_explanation=ask.explained[1],
        key=ask.key,
        group=group,
    )


_SUM = re.compile(r"We have (\d+) ([+*-]) (\d+) = (\d+)\.")
_FUNCTION = re.compile(r"Use def (\w)\(x\): return x (.+)\.")
_INVERSE = {"+": "-", "-": "+", "*": "/"}
_STEP = re.compile(r"([+*-]) (\d+)")


def draw(rng: random.Random, facts: Facts, name: str, *, held_out: bool = False) -> Task:
    """A task of the specialty from the training side, or from the benchmark side.

    Raises ValueError for an unknown specialty.
    """
    if name not in SPECIALTIES:
        raise ValueError(f"no specialty named {name!r}; known: {', '.join(SPECIALTIES)}")
    return SPECIALTIES[name](rng, facts, held_out)


def worked(turn: Turn) -> Turn:
    """A sum with its working, its result and the check by the inverse: "Work: 7 + 5 = 12, so x = 12."

    Raises ValueError for a turn that is no sum.
    """
    right, wrong = _SUM.fullmatch(turn.explanation), _SUM.fullmatch(turn.wrong_explanation)
    if right is None or wrong is None:
        raise ValueError(f"no sum to work out in {turn.explanation!r}")
    a, sign, b, value = right.groups()
    back = _INVERSE[sign]
    return replace(
        turn,
        core=f"Work: {a} {sign} {b} = {value}, so x = {value}.",
        wrong_core=f"Work: {a} {sign} {b} = {wrong[4]}, so x = {wrong[4]}.",
        checks=(Check((f"x = {value}",)),),
        explanation=f"Check: {value} {back} {b} = {a}.",
        wrong_explanation=f"Check: {wrong[4]} {back} {b} = {a}.",
        key=f"check {value} {back} {b} = {a}",
    )


def tested(turn: Turn) -> Turn:
    """A function with a test that it passes; a question to run one is worked out as a sum."""
    right, wrong = _FUNCTION.fullmatch(turn.core), _FUNCTION.fullmatch(turn.wrong_core)
    if right is None or wrong is None:
        return worked(turn)
    name, steps = right.groups()
    start = int(_STEP.findall(steps)[-1][1])
    return replace(
        turn,
        core=f"Code: def {name}(x): y = x {steps}; return y.",
        wrong_core=f"Code: def {name}(x): y = x {wrong[2]}; return y.",
        checks=(Check((f"def {name}",), 0.4), Check((f"y = x {steps} return y",), 0.6)),
        explanation=f"Test: {name}({start}) = {_run(steps, start)}.",
        wrong_explanation=f"Test: {name}({start}) = {_run(steps, start) + 1}.",
        key=f"test {name} {start} = {_run(steps, start)}",
    )


def _run(steps: str, x: int) -> int:
    for sign, number in _STEP.findall(steps):
        x = {"+": x + int(number), "-": x - int(number), "*": x * int(number)}[sign]
    return x


def _math(rng: random.Random, facts: Facts, held_out: bool) -> Task:
    task = catalogue.draw(rng, facts, "math", held_out=held_out)
    return Task("math", task.key, (worked(task.turns[0]), worked(task.turns[1])))


def _code(rng: random.Random, facts: Facts, held_out: bool) -> Task:
    task = catalogue.draw(rng, facts, "coding", held_out=held_out)
    return Task("code", task.key, (tested(task.turns[0]), tested(task.turns[1])))


def _clinic(rng: random.Random, facts: Facts, held_out: bool) -> Task:
    return draw_clinic(rng, facts, held_out=held_out)


SPECIALTIES: dict[str, Callable[[random.Random, Facts, bool], Task]] = {
    "math": _math,
    "code": _code,
    "clinic": _clinic,
}
