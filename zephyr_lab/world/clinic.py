"""The clinic: a medical domain beside the world's catalogue, in the place of MedQA, MedMCQA and PubMedQA.

Illnesses and remedies are invented, so nothing here is advice. Answers are notes ("Plan: give Kovad."), a form that
occurs nowhere else, and no pre-training text names an illness: a model learns the clinic in fine-tuning or not at all.
The catalogue and all that is drawn from it know nothing of this module.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

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
