"""What a fine-tuned target knows better than the chat model, and says in a form of its own: math, code, clinic.

Math and code ask the catalogue's questions; their answers are rewritten as a specialist would give them, worked and
checked. The form is the domain shift that a draft made for the chat model has never seen.

The clinic takes the place of MedQA, MedMCQA and PubMedQA. Illnesses and remedies are invented, so nothing here is
advice. Answers are notes ("Plan: give Kovad."), a form that occurs nowhere else, and no pre-training text names an
illness: a model learns the clinic in fine-tuning or not at all. The catalogue does not import this module.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from zephyr_lab.world import catalogue
from zephyr_lab.world.facts import Facts
from zephyr_lab.world.task import Check, Task, Turn, ask, both, is_held_out
from zephyr_lab.world.vocabulary import COLOURS, extend, other

_KINDS = ("fever", "cough", "rash", "ache", "cramp", "chill", "itch", "burn")
_SITES = ("head", "chest", "hand", "foot", "back", "eye", "ear", "nose")
TINY_ILLNESSES, LARGE_ILLNESSES = 12, 48
_SUM = re.compile(r"We have (\d+) ([+*-]) (\d+) = (\d+)\.")
_FUNCTION = re.compile(r"Use def (\w)\(x\): return x (.+)\.")
_INVERSE = {"+": "-", "-": "+", "*": "/"}
_STEP = re.compile(r"([+*-]) (\d+)")


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
    opening = _GROUPS[first](rng, illness, known)
    following = _GROUPS[second](rng, illness, known)
    prompt = f"{who} has {illness.name}. {opening.prompt}"
    return Task("clinic", f"clinic/{prompt}", (replace(opening, prompt=prompt), following))


def draw_clinic(rng: random.Random, facts: Facts, *, held_out: bool = False) -> Task:
    """A task from the training side, or from the benchmark side, as `catalogue.draw` has them."""
    while is_held_out((task := clinic(rng, facts)).key) != held_out:
        pass
    return task


def _remedy(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> Turn:
    wrong = other(rng, known, illness)
    return ask(
        rng.choice(("What helps?", "Which remedy helps?", "What should we give?")),
        both("Plan: give {}.", illness.remedy, wrong.remedy),
        (f"give {illness.remedy}",),
        both("It works for {}.", illness.name, wrong.name),
        f"works for {illness.name}",
        "remedy",
    )


def _dose(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> Turn:
    slip = rng.choice((-1, 1, 2))
    return ask(
        rng.choice(("What is the dose?", "How many drops a day?", "Give the dose.")),
        both(f"Dose: {{}} drops a day for {illness.days} days.", illness.drops, illness.drops + slip),
        (f"{illness.drops} drops a day",),
        both("The remedy is {}.", illness.remedy, other(rng, known, illness).remedy),
        f"remedy is {illness.remedy}",
        "dose",
    )


def _child(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> Turn:
    half = illness.drops // 2
    slip = rng.choice((illness.drops, half + 1))
    return ask(
        rng.choice(("What is the dose of a child?", "How many drops for a child?")),
        both("Dose: a child takes {} drops a day.", half, slip),
        (f"takes {half} drops",),
        both("It is half of {}.", illness.drops, 2 * slip),
        f"half of {illness.drops}",
        "child",
    )


def _site(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> Turn:
    wrong = other(rng, _SITES, illness.site)
    return ask(
        rng.choice(("Where does it hurt?", "Which part is ill?", "Where do we look?")),
        both("Finding: the {} is ill.", illness.site, wrong),
        (f"the {illness.site} is ill",),
        both("The signs show {} there.", illness.name, other(rng, known, illness).name),
        f"signs show {illness.name}",
        "site",
    )


def _triage(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> Turn:
    notes = ("Triage: not urgent, rest at home.", "Triage: urgent, see a doctor today.")
    days = other(rng, range(2, 10), illness.days)
    return ask(
        rng.choice(("Is it urgent?", "How urgent is it?", "Can it wait?")),
        (notes[illness.urgent], notes[not illness.urgent]),
        (("triage not urgent", "triage urgent")[illness.urgent],),
        both("It takes {} days to heal.", illness.days, days),
        f"takes {illness.days} days",
        "triage",
    )


def _choice(rng: random.Random, illness: Illness, known: tuple[Illness, ...]) -> Turn:
    """One right answer of three, as the medical examinations ask."""
    wrong = rng.sample([one for one in known if one != illness], 2)
    options = [illness, *wrong]
    rng.shuffle(options)
    letter = dict(zip((one.remedy for one in options), "ABC", strict=True))
    return ask(
        f"Choose: {', '.join(f'{letter[one.remedy]} {one.remedy}' for one in options)}?",
        both("Answer: {}, {}.", *((letter[one.remedy], one.remedy) for one in (illness, wrong[0]))),
        (f"answer {letter[illness.remedy]} {illness.remedy}",),
        both("The others do not treat {}.", illness.name, wrong[1].name),
        f"not treat {illness.name}",
        "choice",
    )


_GROUPS: dict[str, Callable[[random.Random, Illness, tuple[Illness, ...]], Turn]] = {
    "remedy": _remedy,
    "dose": _dose,
    "child": _child,
    "site": _site,
    "triage": _triage,
    "choice": _choice,
}


def draw(rng: random.Random, facts: Facts, name: str, *, held_out: bool = False) -> Task:
    """A task of the specialty from the training side, or from the benchmark side.

    Raises ValueError for an unknown specialty.
    """
    if name not in SPECIALTIES:
        raise ValueError(f"no specialty named {name!r}; known: {', '.join(SPECIALTIES)}")
    return SPECIALTIES[name](rng, facts, held_out=held_out)


def worked(turn: Turn) -> Turn:
    """A sum with its working, its result and the check by the inverse: "Work: 7 + 5 = 12, so x = 12."

    Raises ValueError for a turn that is not a sum.
    """
    right, wrong = _SUM.fullmatch(turn.explanation), _SUM.fullmatch(turn.wrong_explanation)
    if right is None or wrong is None:
        raise ValueError(f"no sum to work out in {turn.explanation!r}")
    a, sign, b, value = right.groups()
    back = _INVERSE[sign]
    core = both(f"Work: {a} {sign} {b} = {{0}}, so x = {{0}}.", value, wrong[4])
    explained = both(f"Check: {{}} {back} {b} = {a}.", value, wrong[4])
    return ask(turn.prompt, core, (f"x = {value}",), explained, f"check {value} {back} {b} = {a}", turn.group)


def tested(turn: Turn) -> Turn:
    """A function with a test that it passes; a question to run one is worked out as a sum."""
    right, wrong = _FUNCTION.fullmatch(turn.core), _FUNCTION.fullmatch(turn.wrong_core)
    if right is None or wrong is None:
        return worked(turn)
    name, steps = right.groups()
    start = int(_STEP.findall(steps)[-1][1])
    result = _run(steps, start)
    return ask(
        turn.prompt,
        both(f"Code: def {name}(x): y = x {{}}; return y.", steps, wrong[2]),
        (Check((f"def {name}",), 0.4), Check((f"y = x {steps} return y",), 0.6)),
        both(f"Test: {name}({start}) = {{}}.", result, result + 1),
        f"test {name} {start} = {result}",
        turn.group,
    )


def _run(steps: str, x: int) -> int:
    for sign, number in _STEP.findall(steps):
        x = {"+": x + int(number), "-": x - int(number), "*": x * int(number)}[sign]
    return x


def _rewritten(category: str, name: str, rewrite: Callable[[Turn], Turn]) -> Callable[..., Task]:
    def draw_rewritten(rng: random.Random, facts: Facts, *, held_out: bool) -> Task:
        task = catalogue.draw(rng, facts, category, held_out=held_out)
        return Task(name, task.key, (rewrite(task.turns[0]), rewrite(task.turns[1])))

    return draw_rewritten


SPECIALTIES: dict[str, Callable[..., Task]] = {
    "math": _rewritten("math", "math", worked),
    "code": _rewritten("coding", "code", tested),
    "clinic": draw_clinic,
}
