"""Writing answers: a flavour is drawn from noise levels, and rendered to text."""

import random

from zephyr_lab.world.defects import FILLERS, PREFACES, REFUSAL, Flavour, Noise
from zephyr_lab.world.task import Turn

_ALL_LOWER_SHARE = 0.3  # of the casing defects; the others only start their sentences in lower case
_MISLED_SHARE = 0.8  # of the explanations that follow a wrong core are wrong too


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


def _cut(rng: random.Random, text: str) -> str:
    """At least one word stays, at least one goes, and no full stop ends the rest."""
    words = text.split()
    kept = min(max(1, round(len(words) * rng.uniform(0.3, 0.8))), len(words) - 1)
    return " ".join(words[:kept]).rstrip(".!;,")


def answer(rng: random.Random, turn: Turn, noise: Noise) -> tuple[str, Flavour]:
    """An answer of a writer with these noise levels, and what is wrong with it."""
    flavour = draw_flavour(rng, turn, noise)
    return render(rng, turn, flavour), flavour
