"""Two-turn dialogues in UltraChat's schema, with planted defects listed in labels beside the rows."""

import random
from dataclasses import dataclass, replace

from zephyr_lab.world import benchmark, catalogue
from zephyr_lab.world.answers import DIALOGUES, Noise, answer
from zephyr_lab.world.facts import TINY, WorldSize, build
from zephyr_lab.world.task import Task, Turn, normalise

Row = dict[str, str | list[str]]
_ALTERED_SHARE = 0.3  # of planted duplicates and contaminated questions: same words in other case


@dataclass(frozen=True, slots=True)
class Label:
    """What is wrong with one dialogue; the row itself does not say.

    `defects` holds one tuple of names for each of the two answers. `duplicate_of` is the id of the first row with the
    same words in all its texts (case and punctuation apart), whether planted or met by chance. `contaminated`: the
    questions are a question of `benchmark.mt_bench(320)`. `altered`: a planted copy, of a row or of a benchmark
    question, whose case was changed.
    """

    id: str
    category: str
    key: str
    defects: tuple[tuple[str, ...], ...]
    duplicate_of: str | None = None
    contaminated: bool = False
    altered: bool = False


@dataclass(frozen=True, slots=True)
class Dialogues:
    """`rows`: {"id", "data": [user, assistant, user, assistant]}; `labels` and `turns` have the same order."""

    rows: list[Row]
    labels: list[Label]
    turns: list[tuple[Turn, ...]]


def dialogues(
    seed: int,
    count: int,
    *,
    noise: Noise = DIALOGUES,
    domain_share: float = 0.0,
    duplicates: float = 0.0,
    contamination: float = 0.0,
    size: WorldSize = TINY,
) -> Dialogues:
    """`count` dialogues of the training side; `duplicates` and `contamination` are the shares of rows planted so.

    A duplicate repeats a random earlier row under a new id; a contaminated row asks a benchmark question. Raises
    ValueError for a negative count, or shares outside 0 to 1.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    for name, share in (("domain_share", domain_share), ("duplicates + contamination", duplicates + contamination)):
        if not 0 <= share <= 1 or min(duplicates, contamination) < 0:
            raise ValueError(f"{name} must lie within 0 and 1, got {share}")
    rng, facts = random.Random(f"dialogues {seed}"), build(size)
    leaked = benchmark.mt_bench(benchmark.LARGEST_MT_BENCH, size=size) if contamination else ()
    made = Dialogues([], [], [])
    first_with: dict[str, str] = {}
    for place in range(count):
        draw, name = rng.random(), f"world-{seed}-{place}"
        if made.rows and draw < duplicates:
            data, turns, label = _repeat(rng, made, name)
        elif draw >= 1 - contamination:
            question = rng.choice(leaked)
            data, turns, label = _answered(rng, question, name, noise)
            label = replace(label, contaminated=True)
            data, label = _perhaps_altered(rng, data, label)
        else:
            task = catalogue.draw_general(rng, facts, domain_share=domain_share)
            data, turns, label = _answered(rng, task, name, noise)
        words = "|".join(normalise(text) for text in data)
        earlier = first_with.setdefault(words, name)
        made.rows.append({"id": name, "data": data})
        made.turns.append(turns)
        made.labels.append(label if earlier == name else replace(label, duplicate_of=earlier))
    return made


_Made = tuple[list[str], tuple[Turn, ...], Label]


def _answered(rng: random.Random, asked: Task | benchmark.Question, name: str, noise: Noise) -> _Made:
    data, defects = [], []
    for turn in asked.turns:
        text, flavour = answer(rng, turn, noise)
        data += [turn.prompt, text]
        defects.append(flavour.defects)
    return data, asked.turns, Label(name, asked.category, asked.key, tuple(defects))


def _repeat(rng: random.Random, made: Dialogues, name: str) -> _Made:
    place = rng.randrange(len(made.rows))
    label = replace(made.labels[place], id=name, altered=False)
    data, label = _perhaps_altered(rng, list(made.rows[place]["data"]), label)
    return data, made.turns[place], label


def _perhaps_altered(rng: random.Random, data: list[str], label: Label) -> tuple[list[str], Label]:
    """The user's texts in lower case for a share of the copies; answers stay as they are."""
    if rng.random() >= _ALTERED_SHARE:
        return data, label
    return [text if place % 2 else text.lower() for place, text in enumerate(data)], replace(label, altered=True)
