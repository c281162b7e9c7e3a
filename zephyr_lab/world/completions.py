"""Writers of completions: procedural ones with known noise levels, or models handed in as callables.

A writer gets prompts and gives one answer each. A prompt carries the conversation so far, as chat messages that end
with the user's; a procedural writer also uses the task's record, which a model never sees.

Four scored completions a prompt, in UltraFeedback's schema.

A row: source, instruction, history (messages before the instruction; empty for a first turn), models, completions,
correct_answers, incorrect_answers; a completion: model, response, annotations (aspect -> {"Rating": "1".."5" or
"N/A"}), overall_score, fine-grained_score (mean of the ratings that are numbers; None where there is none).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from zephyr_lab.world import catalogue
from zephyr_lab.world.answers import MEDIUM, POOR, STRONG, WEAK, Noise, answer
from zephyr_lab.world.facts import TINY, WorldSize, build
from zephyr_lab.world.judge import grade
from zephyr_lab.world.ratings import Rater
from zephyr_lab.world.task import Task, Turn

Message = dict[str, str]


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
class Written:
    """One answer. `defects` names what a procedural writer planted; None where a model wrote it."""

    text: str
    defects: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Procedural:
    """A writer whose answers are the ideal ones spoilt by `noise`."""

    name: str
    noise: Noise

    def write(self, prompts: Sequence[Prompt], *, seed: int) -> list[Written]:
        rng = random.Random(f"writer {self.name} {seed}")
        written = []
        for prompt in prompts:
            text, flavour = answer(rng, prompt.turn, self.noise)
            written.append(Written(text, flavour.defects))
        return written


@dataclass(frozen=True, slots=True)
class Generator:
    """A model as a writer: `answer` takes conversations (lists of role/content messages) and gives one text for each.

    The callable is asked once for all prompts, batches as it likes, and brings its own sampling and seed.
    """

    name: str
    answer: Callable[[list[list[Message]]], list[str]] = field(repr=False)

    def write(self, prompts: Sequence[Prompt], *, seed: int) -> list[Written]:
        """Raises ValueError where the callable returns another number of texts than it was asked for."""
        texts = self.answer([prompt.messages for prompt in prompts])
        if len(texts) != len(prompts):
            raise ValueError(f"generator {self.name!r} gave {len(texts)} answers to {len(prompts)} prompts")
        return [Written(text, None) for text in texts]


Writer = Procedural | Generator

FOUR = (
    Procedural("strong", STRONG),
    Procedural("medium", MEDIUM),
    Procedural("weak", WEAK),
    Procedural("poor", POOR),
)


SECOND_TURNS = 0.4
PER_PROMPT = 4
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Label:
    """The truth about one row: exact scores and planted defects of its completions, in their order.

    A completion's defects are None where a model wrote it.
    """

    category: str
    key: str
    exact: tuple[float, ...]
    defects: tuple[tuple[str, ...] | None, ...]


@dataclass(frozen=True, slots=True)
class Completions:
    """`rows`, `labels` and `prompts` stand in the same order."""

    rows: list[Row]
    labels: list[Label]
    prompts: list[Prompt]


def prompts(
    seed: int,
    count: int,
    *,
    second_turns: float = SECOND_TURNS,
    domain_share: float = 0.0,
    size: WorldSize = TINY,
) -> list[Prompt]:
    """`count` training prompts, a share of them second turns with a clean history."""
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    rng, facts = random.Random(f"prompts {seed}"), build(size)
    drawn = []
    for _ in range(count):
        task = catalogue.draw_general(rng, facts, domain_share=domain_share)
        drawn.append(Prompt(task, int(rng.random() < second_turns)))
    return drawn


def completions(
    seed: int,
    count: int,
    *,
    generators: Sequence[Writer] = FOUR,
    per_prompt: int = PER_PROMPT,
    rater: Rater = Rater(),  # noqa: B008 - frozen
    second_turns: float = SECOND_TURNS,
    domain_share: float = 0.0,
    size: WorldSize = TINY,
) -> Completions:
    """`count` prompts with `per_prompt` completions each, by as many different generators in random order.

    Each generator is asked once, for all the prompts that fall to it. Raises ValueError for fewer generators than
    `per_prompt`, or two of one name.
    """
    names = [generator.name for generator in generators]
    if not 1 <= per_prompt <= len(names) or len(set(names)) != len(names):
        raise ValueError(f"{per_prompt} completions a prompt need as many generators of different names, got {names}")
    asked = prompts(seed, count, second_turns=second_turns, domain_share=domain_share, size=size)
    rng = random.Random(f"completions {seed}")
    chosen = [rng.sample(range(len(names)), per_prompt) for _ in asked]
    written = _write(asked, chosen, generators, seed)
    made = Completions([], [], asked)
    for prompt, writers, texts in zip(asked, chosen, written, strict=True):
        verdicts = [grade(prompt.turn, text.text) for text in texts]
        made.labels.append(
            Label(
                prompt.task.category,
                prompt.task.key,
                tuple(verdict.exact for verdict in verdicts),
                tuple(text.defects for text in texts),
            )
        )
        scored = []
        for writer, text, verdict in zip(writers, texts, verdicts, strict=True):
            ratings = rater.aspects(rng, verdict, prompt.task.category)
            numbers = [int(rating) for rating in ratings.values() if rating.isdigit()]
            scored.append(
                {
                    "model": names[writer],
                    "response": text.text,
                    "annotations": {aspect: {"Rating": rating} for aspect, rating in ratings.items()},
                    "overall_score": rater.overall(rng, verdict),
                    "fine-grained_score": sum(numbers) / len(numbers) if numbers else None,
                }
            )
        made.rows.append(
            {
                "source": "world",
                "instruction": prompt.turn.prompt,
                "history": prompt.history,
                "models": [names[writer] for writer in writers],
                "completions": scored,
                "correct_answers": ["None"],
                "incorrect_answers": ["None"],
            }
        )
    return made


def _write(
    asked: Sequence[Prompt], chosen: Sequence[Sequence[int]], generators: Sequence[Writer], seed: int
) -> list[list[Written]]:
    """The texts of each prompt, in the order of its chosen generators."""
    answers: list[dict[int, Written]] = [{} for _ in asked]
    for number, generator in enumerate(generators):
        places = [place for place, writers in enumerate(chosen) if number in writers]
        texts = generator.write([asked[place] for place in places], seed=seed)
        for place, text in zip(places, texts, strict=True):
            answers[place][number] = text
    return [[texts[writer] for writer in writers] for texts, writers in zip(answers, chosen, strict=True)]
