"""Answers of a procedural writer: what can be wrong with one, how often, and the phrases that are planted.

A writer with some `Noise` draws a `Flavour` for each answer and renders it to text. The filters of `data` share none
of these phrases: their own lists are tested against them.
"""

import random
from dataclasses import dataclass, fields
from typing import Literal

from zephyr_lab.world.task import Turn

# Disclaimer prefaces. The first three say what published cards quote ("I do not have emotions", "I don't have
# opinions"); the others mean the same in other words, or excuse themselves in other ways.
PREFACES = (
    "I do not have emotions.",
    "I don't have opinions.",
    "As a model, I do not have feelings.",
    "I hold no views of my own.",
    "A machine feels nothing.",
    "I am only a program.",
    "I have no heart to feel with.",
    "My words carry no personal view.",
    "I cannot take sides.",
    "I am sorry, I am just software.",
)

# Closing words that say nothing: the padding of over-long answers.
FILLERS = (
    "I hope this answer helps you today.",
    "Please ask me if you need more help.",
    "Thank you for this very good question.",
    "That is all I can say about it.",
    "Have a good day and come back soon.",
)

REFUSAL = "I do not know that."
_ALL_LOWER_SHARE = 0.3  # of the casing defects; the others only start their sentences in lower case
_MISLED_SHARE = 0.8  # of the explanations that follow a wrong core are wrong too

Kind = Literal["none", "right", "wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """How one answer departs from the ideal one; the default is ideal. `refused` takes the place of the core."""

    core: Literal["right", "wrong", "refused"] = "right"
    explanation: Kind = "right"
    case: Literal["right", "lower_start", "all_lower"] = "right"
    preface: str = ""
    filler: str = ""
    truncated: bool = False

    @property
    def defects(self) -> tuple[str, ...]:
        """Names of the planted defects, as labels give them."""
        planted = {
            "wrong": self.core == "wrong",
            "refused": self.core == "refused",
            "no_explanation": self.explanation == "none",
            "wrong_explanation": self.explanation == "wrong",
            "lower_start": self.case == "lower_start",
            "all_lower": self.case == "all_lower",
            "preface": bool(self.preface),
            "filler": bool(self.filler),
            "truncated": self.truncated,
        }
        return tuple(name for name, is_planted in planted.items() if is_planted)


IDEAL = Flavour()


@dataclass(frozen=True, slots=True)
class Noise:
    """Probability of each defect in one answer; `explanation` is the probability of explaining at all.

    `made_up` takes the place of `wrong` where the world has no answer: the probability of claiming a fact rather than
    saying "I do not know". `refused`: the probability of "I do not know" where the answer is known.
    """

    wrong: float
    explanation: float
    lower_case: float
    preface: float
    truncated: float
    filler: float
    made_up: float
    refused: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise ValueError(f"{field.name} is a probability, got {value}")
        if self.wrong + self.refused > 1:
            raise ValueError(f"wrong + refused must not exceed 1, got {self.wrong} + {self.refused}")


# wrong, explanation, lower case, preface, truncated, filler, made up, refused
CLEAN = Noise(0.00, 1.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00)
WEB = Noise(0.08, 0.55, 0.15, 0.02, 0.05, 0.03, 0.50, 0.01)
DIALOGUES = Noise(0.20, 0.45, 0.10, 0.12, 0.06, 0.10, 0.55, 0.02)
TEACHER = Noise(0.02, 0.85, 0.01, 0.01, 0.01, 0.02, 0.03, 0.00)
# the four writers of completions differ in manner too: medium is terse and cautious, weak is eager and wordy
STRONG = Noise(0.06, 0.90, 0.02, 0.02, 0.01, 0.10, 0.10, 0.01)
MEDIUM = Noise(0.15, 0.50, 0.06, 0.08, 0.04, 0.04, 0.10, 0.10)
WEAK = Noise(0.40, 0.40, 0.15, 0.20, 0.10, 0.30, 0.80, 0.00)
POOR = Noise(0.60, 0.20, 0.30, 0.30, 0.25, 0.10, 0.80, 0.06)


def draw_flavour(rng: random.Random, turn: Turn, noise: Noise) -> Flavour:
    """Which defects an answer to this turn gets."""
    wrong = noise.wrong if turn.known else noise.made_up
    draw = rng.random()
    core = "wrong" if draw < wrong else "refused" if turn.known and draw > 1 - noise.refused else "right"
    explanation = "none"
    if rng.random() < noise.explanation and core != "refused":
        explanation = "wrong" if core == "wrong" and rng.random() < _MISLED_SHARE else "right"
    case = "right"
    if rng.random() < noise.lower_case:
        case = "all_lower" if rng.random() < _ALL_LOWER_SHARE else "lower_start"
    return Flavour(
        core=core,
        explanation=explanation,
        case=case,
        preface=rng.choice(PREFACES) if rng.random() < noise.preface else "",
        filler=rng.choice(FILLERS) if rng.random() < noise.filler else "",
        truncated=rng.random() < noise.truncated,
    )


def render(rng: random.Random, turn: Turn, flavour: Flavour) -> str:
    """The answer as text. `rng` decides where a truncated answer breaks off: after 30 to 80 % of its words."""
    core = {"right": turn.core, "wrong": turn.wrong_core, "refused": REFUSAL}[flavour.core]
    explanation = {"none": "", "right": turn.explanation, "wrong": turn.wrong_explanation}[flavour.explanation]
    sentences = [sentence for sentence in (flavour.preface, core, explanation, flavour.filler) if sentence]
    if flavour.case == "lower_start":
        sentences = [sentence[0].lower() + sentence[1:] for sentence in sentences]
    text = " ".join(sentences)
    if flavour.case == "all_lower":
        text = text.lower()
    return _cut(rng, text) if flavour.truncated else text


def answer(rng: random.Random, turn: Turn, noise: Noise) -> tuple[str, Flavour]:
    """An answer of a writer with these noise levels, and what is wrong with it."""
    flavour = draw_flavour(rng, turn, noise)
    return render(rng, turn, flavour), flavour


def _cut(rng: random.Random, text: str) -> str:
    """At least one word stays, at least one goes, and no full stop ends the rest."""
    words = text.split()
    kept = min(max(1, round(len(words) * rng.uniform(0.3, 0.8))), len(words) - 1)
    return " ".join(words[:kept]).rstrip(".!;,")
