"""Writers of completions: procedural ones with known noise levels, or models handed in as callables.

A writer gets prompts and gives one answer each. A prompt carries the conversation so far, as chat messages that end
with the user's; a procedural writer also uses the task's record, which a model never sees.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from zephyr_lab.world.answers import answer
from zephyr_lab.world.defects import MEDIUM, POOR, STRONG, WEAK, Noise
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
