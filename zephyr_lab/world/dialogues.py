"""Two-turn dialogues in UltraChat's schema, with planted defects told in a side record."""

import random
from dataclasses import dataclass

from zephyr_lab.world import catalogue
from zephyr_lab.world.answers import answer
from zephyr_lab.world.defects import DIALOGUES, Noise
from zephyr_lab.world.facts import TINY, Facts, WorldSize, build
from zephyr_lab.world.task import Task

Row = dict[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class Label:
    """What is planted in one dialogue. The row itself tells nothing of it.

    `defects` holds one tuple of names for each of the two answers. `duplicate_of` is the id of the earlier row whose
    texts this one repeats. `contaminated`: the questions stand in the benchmark pool.
    """

    id: str
    category: str
    key: str
    defects: tuple[tuple[str, ...], ...]
    duplicate_of: str | None
    contaminated: bool


@dataclass(frozen=True, slots=True)
class Dialogues:
    """`rows`: {"id", "data": [user, assistant, user, assistant]}; `labels` and `tasks` stand in the same order."""

    rows: list[Row]
    labels: list[Label]
    tasks: list[Task]


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
    """`count` dialogues; `duplicates` and `contamination` are the shares of rows planted so (both 0 by default).

    A duplicate repeats a random earlier row under a new id. A contaminated row takes its questions from the benchmark
    side. Raises ValueError for a negative count or shares outside 0 to 1.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    for name, share in (("domain_share", domain_share), ("duplicates", duplicates), ("contamination", contamination)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share from 0 to 1, got {share}")
    rng, facts = random.Random(f"dialogues {seed}"), build(size)
    made = Dialogues([], [], [])
    for place in range(count):
        name = f"world-{seed}-{place}"
        if place and rng.random() < duplicates:
            _repeat(rng, made, name)
        else:
            _add(rng, facts, made, name, noise, domain_share, contaminated=rng.random() < contamination)
    return made


def _repeat(rng: random.Random, made: Dialogues, name: str) -> None:
    """Append an earlier row again; a repeated repetition still names the first of its kind."""
    place = rng.randrange(len(made.rows))
    source, label = made.rows[place], made.labels[place]
    made.rows.append({"id": name, "data": list(source["data"])})
    made.labels.append(
        Label(name, label.category, label.key, label.defects, label.duplicate_of or label.id, label.contaminated)
    )
    made.tasks.append(made.tasks[place])


def _add(
    rng: random.Random,
    facts: Facts,
    made: Dialogues,
    name: str,
    noise: Noise,
    domain_share: float,
    *,
    contaminated: bool,
) -> None:
    if contaminated:
        category = rng.choice(tuple(catalogue.MT_BENCH))
        task = catalogue.draw(rng, facts, category, held_out=True)
    else:
        task = catalogue.draw_general(rng, facts, domain_share=domain_share)
    data, defects = [], []
    for turn in task.turns:
        text, flavour = answer(rng, turn, noise)
        data += [turn.prompt, text]
        defects.append(flavour.defects)
    made.rows.append({"id": name, "data": data})
    made.labels.append(Label(name, task.category, task.key, tuple(defects), None, contaminated))
    made.tasks.append(task)
