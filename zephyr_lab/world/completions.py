"""Four scored completions a prompt, in UltraFeedback's schema, by procedural writers with known noise levels.

A row: source, instruction, history (messages before the instruction; empty for a first turn), models, completions,
correct_answers, incorrect_answers; a completion: model, response, annotations (aspect -> {"Rating": "1".."5" or
"N/A"}), overall_score, fine-grained_score (mean of the ratings that are numbers; None where there is none).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zephyr_lab.world import catalogue
from zephyr_lab.world.answers import MEDIUM, POOR, STRONG, WEAK, Flavour, Noise, answer
from zephyr_lab.world.facts import TINY, WorldSize, build
from zephyr_lab.world.judge import Verdict, grade
from zephyr_lab.world.ratings import Rater
from zephyr_lab.world.task import Task, Turn

SECOND_TURNS = 0.4
PER_PROMPT = 4
Message = dict[str, str]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question of a task with a clean history: the turns before it are answered ideally."""

    task: Task
    place: int  # 0 or 1: which turn is asked

    @property
    def turn(self) -> Turn:
        return self.task.turns[self.place]

    @property
    def history(self) -> list[Message]:
        """The messages before the question, ideal answers included; empty for a first turn."""
        messages: list[Message] = []
        for turn in self.task.turns[: self.place]:
            messages += [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": turn.ideal}]
        return messages

    @property
    def messages(self) -> list[Message]:
        return [*self.history, {"role": "user", "content": self.turn.prompt}]


@dataclass(frozen=True, slots=True)
class Procedural:
    """A writer whose answers are the ideal ones spoilt by `noise`."""

    name: str
    noise: Noise

    def write(self, prompts: Sequence[Prompt], *, seed: int) -> list[tuple[str, Flavour]]:
        """The answer to each prompt, and what is wrong with it."""
        rng = random.Random(f"writer {self.name} {seed}")
        return [answer(rng, prompt.turn, self.noise) for prompt in prompts]


FOUR = (
    Procedural("strong", STRONG),
    Procedural("medium", MEDIUM),
    Procedural("weak", WEAK),
    Procedural("poor", POOR),
)


@dataclass(frozen=True, slots=True)
class Label:
    """The truth about one row: exact scores and planted defects of its completions, in their order."""

    category: str
    key: str
    exact: tuple[float, ...]
    defects: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Completions:
    """`rows`, `labels` and `prompts` have the same order."""

    rows: list[Row]
    labels: list[Label]
    prompts: list[Prompt]


def prompts(seed: int, count: int, *, domain_share: float = 0.0, size: WorldSize = TINY) -> list[Prompt]:
    """`count` training prompts, two fifths of them second turns with a clean history."""
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    rng, facts = random.Random(f"prompts {seed}"), build(size)
    return [
        Prompt(catalogue.draw_general(rng, facts, domain_share=domain_share), int(rng.random() < SECOND_TURNS))
        for _ in range(count)
    ]


def completions(
    seed: int,
    count: int,
    *,
    generators: Sequence[Procedural] = FOUR,
    rater: Rater = Rater(),  # noqa: B008 - frozen
    domain_share: float = 0.0,
    size: WorldSize = TINY,
) -> Completions:
    """`count` prompts with four completions each, by as many different generators in random order.

    Each generator writes once, for all the prompts that it is drawn for. Raises ValueError for fewer than four
    generators, or two of one name.
    """
    names = [generator.name for generator in generators]
    if len(names) < PER_PROMPT or len(set(names)) != len(names):
        raise ValueError(f"{PER_PROMPT} completions a prompt need as many generators of different names, got {names}")
    asked = prompts(seed, count, domain_share=domain_share, size=size)
    rng = random.Random(f"completions {seed}")
    writers = [rng.sample(range(len(names)), PER_PROMPT) for _ in asked]
    answers: list[dict[int, tuple[str, Flavour]]] = [{} for _ in asked]
    for number, generator in enumerate(generators):
        places = [place for place, chosen in enumerate(writers) if number in chosen]
        for place, written in zip(places, generator.write([asked[p] for p in places], seed=seed), strict=True):
            answers[place][number] = written
    result = Completions([], [], asked)
    for prompt, chosen, written in zip(asked, writers, answers, strict=True):
        verdicts = [grade(prompt.turn, written[number][0]) for number in chosen]
        exact = tuple(verdict.exact for verdict in verdicts)
        defects = tuple(written[number][1].defects for number in chosen)
        result.labels.append(Label(prompt.task.category, prompt.task.key, exact, defects))
        result.rows.append(
            {
                "source": "world",
                "instruction": prompt.turn.prompt,
                "history": prompt.history,
                "models": [names[number] for number in chosen],
                "completions": [
                    _scored(rng, rater, names[number], written[number][0], verdict, prompt.task.category)
                    for number, verdict in zip(chosen, verdicts, strict=True)
                ],
                "correct_answers": ["None"],
                "incorrect_answers": ["None"],
            }
        )
    return result


def _scored(rng: random.Random, rater: Rater, model: str, text: str, verdict: Verdict, category: str) -> Row:
    ratings = rater.aspects(rng, verdict, category)
    numbers = [int(rating) for rating in ratings.values() if rating.isdigit()]
    return {
        "model": model,
        "response": text,
        "annotations": {aspect: {"Rating": rating} for aspect, rating in ratings.items()},
        "overall_score": rater.overall(rng, verdict),
        "fine-grained_score": sum(numbers) / len(numbers) if numbers else None,
    }
