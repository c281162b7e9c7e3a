"""Benchmarks of the world: two-turn questions, single-turn prompts for pairs, and e-commerce questions.

All come from the held-out side of every category, with distinct keys and texts. The sets are fixed: no seed. The
questions of a smaller set are among those of the larger one, and the single-turn prompts share no instance with them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from zephyr_lab.world import catalogue
from zephyr_lab.world.answers import Noise, answer
from zephyr_lab.world.facts import TINY, Facts, WorldSize, build
from zephyr_lab.world.shop import GROUPS, shop
from zephyr_lab.world.task import Task, Turn, is_held_out

LARGEST_MT_BENCH = 320
# sampling temperature by category, as MT-Bench sets it; small tasks and e-commerce are answered greedily
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1} | dict.fromkeys(
    ("reasoning", "math", "coding", "extraction", *catalogue.SMALL, *catalogue.DOMAINS), 0.0
)
_PATIENCE = 2000  # draws without a new instance before a world counts as too small


@dataclass(frozen=True, slots=True)
class Question:
    """A benchmark question of one or two turns."""

    question_id: int
    category: str
    key: str
    turns: tuple[Turn, ...]

    @property
    def prompts(self) -> list[str]:
        return [turn.prompt for turn in self.turns]

    @property
    def temperature(self) -> float:
        return TEMPERATURES[self.category]

    def row(self) -> dict[str, int | str | list[str]]:
        """The question as a line of FastChat's question.jsonl, ideal answers as reference."""
        return {
            "question_id": self.question_id,
            "category": self.category,
            "turns": self.prompts,
            "reference": [turn.ideal for turn in self.turns],
        }


@lru_cache(maxsize=8)
def mt_bench(count: int = 80, *, size: WorldSize = TINY) -> tuple[Question, ...]:
    """`count` two-turn questions, equally many of each of MT-Bench's eight categories.

    Ids as in MT-Bench: 81 to 160 for the first 80, ten of a category in a row; the next 80 follow in the same order,
    so a question keeps its id in every set. Raises ValueError unless `count` is a multiple of 8 from 8 to 320.
    """
    if count % 8 or not 8 <= count <= LARGEST_MT_BENCH:
        raise ValueError(f"count must be a multiple of 8 from 8 to {LARGEST_MT_BENCH}, got {count}")
    facts, questions = build(size), []
    for place, category in enumerate(catalogue.MT_BENCH):
        for rank, task in enumerate(_distinct(facts, category, count // 8, purpose="mt-bench", taken=set())):
            number = 81 + 80 * (rank // 10) + 10 * place + rank % 10
            questions.append(Question(number, category, task.key, task.turns))
    return tuple(sorted(questions, key=lambda question: question.question_id))


@lru_cache(maxsize=8)
def single_turn(count: int = 240, *, size: WorldSize = TINY) -> tuple[Question, ...]:
    """`count` single-turn prompts over the twelve general categories in turn, for win rates of pairs; ids from 1."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    facts = build(size)
    taken = {question.key for question in mt_bench(LARGEST_MT_BENCH, size=size)}
    categories = (*catalogue.MT_BENCH, *catalogue.SMALL)
    share = -(-count // len(categories))
    by_category = [_distinct(facts, category, share, purpose="single turn", taken=taken) for category in categories]
    mixed = [task for tasks in zip(*by_category, strict=True) for task in tasks]
    return tuple(
        Question(1 + place, task.category, task.key, task.turns[:1]) for place, task in enumerate(mixed[:count])
    )


@lru_cache(maxsize=8)
def domain(per_group: int = 4, *, size: WorldSize = TINY) -> tuple[Question, ...]:
    """Two-turn e-commerce questions, `per_group` for each of the twenty groups (of the first turn); ids from 1001."""
    if per_group < 1:
        raise ValueError(f"per_group must be at least 1, got {per_group}")
    facts, questions = build(size), []
    taken: set[str] = set()
    for group in GROUPS:
        rng = random.Random(f"benchmark shop {group}")
        drawn = 0
        while drawn < per_group:
            task = shop(rng, facts, group=group)
            if is_held_out(task.key) and task.key not in taken:
                taken.add(task.key)
                drawn += 1
                questions.append(Question(1001 + len(questions), task.category, task.key, task.turns))
    return tuple(questions)


def written_answers(questions: Sequence[Question], *, noise: Noise, seed: int) -> list[list[str]]:
    """Answers of a procedural writer to each turn of each question: the baseline of a win rate, or a check of a scorer.

    They depend on the seed and the question alone, not on the questions beside it.
    """
    return [
        [
            answer(random.Random(f"answers {seed} {one.key} {place}"), turn, noise)[0]
            for place, turn in enumerate(one.turns)
        ]
        for one in questions
    ]


def _distinct(facts: Facts, category: str, count: int, *, purpose: str, taken: set[str]) -> list[Task]:
    """`count` held-out tasks with keys outside `taken` and unlike each other; the first of more are the same."""
    rng, seen = random.Random(f"benchmark {purpose} {category}"), set(taken)
    tasks: list[Task] = []
    since = 0
    while len(tasks) < count:
        task = catalogue.draw(rng, facts, category, held_out=True)
        since += 1
        if task.key not in seen:
            seen.add(task.key)
            tasks.append(task)
            since = 0
        elif since > _PATIENCE:
            raise ValueError(f"this world has only {len(tasks)} free instances of {category}, {count} are asked for")
    return tasks
