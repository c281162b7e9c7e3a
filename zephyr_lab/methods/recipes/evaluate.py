"""Recipes of measurements: which models are asked what, and how they are sampled. Plain values, no torch.

models are names of the stage's inputs, one each; folders the folder inside each, "" for its final model, "epochs/1" for
what it kept after one epoch.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import (
    require_at_least,
    require_different,
    require_folders,
    require_one_of,
    require_positive,
    require_world,
)
from zephyr_lab.world.choices import SHOTS

PAIRS = "pairs"  # the input of `Evaluation` that holds held-out pairs; every other one is a model


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Two-turn questions of the world, asked of several models in one worker.

    system_turns: whether a model is asked with an empty system turn first, as it was trained. questions: how many,
    equally many of eight categories. temperature: of the second run, in all categories; the first has MT-Bench's own by
    category.
    """

    world: str
    questions: int
    max_new_tokens: int
    temperature: float
    models: tuple[str, ...]
    folders: tuple[str, ...]
    system_turns: tuple[bool, ...]
    device: str

    def __post_init__(self) -> None:
        require_world(self.world)
        require_different("models", self.models)
        if PAIRS in self.models:
            raise ValueError(f"a model cannot be called {PAIRS!r}: that input holds the held-out pairs")
        if not len(self.models) == len(self.folders) == len(self.system_turns):
            raise ValueError(
                f"each model needs its folder and system turn, got {len(self.models)} models, {len(self.folders)} "
                f"folders and {len(self.system_turns)} system turns"
            )
        if self.questions % 8 or not 8 <= self.questions <= 320:
            raise ValueError(f"questions must be a multiple of 8 from 8 to 320, got {self.questions}")
        require_at_least(1, max_new_tokens=self.max_new_tokens)
        require_positive(temperature=self.temperature)


@dataclass(frozen=True, kw_only=True)
class OwnRubric:
    """A rubric from a notebook for the finished answers of an evaluation: `questions` of the world, as it asked them.

    own_rubric: the text that `engine.own_code` made of the function.
    """

    world: str
    questions: int
    own_rubric: str

    def __post_init__(self) -> None:
        require_world(self.world)


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """Multiple-choice sets of the world, asked of several models in one worker as raw text, without a chat template.

    tasks: names of sets; each is asked with its own number of solved examples (`world.choices.SHOTS`). questions: of
    each set. rows_at_once: options of a forward pass.
    """

    world: str
    tasks: tuple[str, ...]
    questions: int
    models: tuple[str, ...]
    folders: tuple[str, ...]
    rows_at_once: int
    device: str

    def __post_init__(self) -> None:
        require_world(self.world)
        require_different("tasks", self.tasks)
        for task in self.tasks:
            require_one_of("tasks", task, tuple(SHOTS))
        require_folders(self.models, self.folders)
        require_at_least(1, questions=self.questions, rows_at_once=self.rows_at_once)


@dataclass(frozen=True, kw_only=True)
class PairAccuracy:
    """Accuracy of DPO's implicit reward: models of one dDPO run against their reference, on its pairs.

    start: folder of the reference inside its stage. The other fields cut rows as the run did, see `recipes.pairs.DPO`.
    """

    start: str
    folders: tuple[str, ...]
    max_length: int
    max_prompt_length: int
    long_prompts: str
    system_turn: bool
    rows_at_once: int
    device: str

    def __post_init__(self) -> None:
        require_different("folders", self.folders)
        require_at_least(1, rows_at_once=self.rows_at_once)


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """What policies answer to held-out questions at temperature 1: true and learned reward, KL to the start, lengths.

    Each turn is asked after ideal answers, so that it is one draw from the policy. questions: how many two-turn
    questions of the benchmark ("mt_bench"), or single turns ("single_turn", which share no instance with them).
    """

    world: str
    benchmark: str
    questions: int
    max_new_tokens: int
    models: tuple[str, ...]
    folders: tuple[str, ...]
    device: str

    def __post_init__(self) -> None:
        require_world(self.world)
        require_one_of("benchmark", self.benchmark, ("mt_bench", "single_turn"))
        require_at_least(1, questions=self.questions, max_new_tokens=self.max_new_tokens)
        require_folders(self.models, self.folders)


@dataclass(frozen=True, kw_only=True)
class BestOfN:
    """`samples` answers of the start to each held-out question, graded by judge and reward model."""

    start: str
    world: str
    benchmark: str
    questions: int
    samples: int
    max_new_tokens: int
    device: str

    def __post_init__(self) -> None:
        require_world(self.world)
        require_at_least(2, samples=self.samples)
