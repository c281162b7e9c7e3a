"""Recipe of an evaluation: which models answer which questions, and how they are sampled."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.world.choices import SHOTS

PAIRS = "pairs"  # the input that holds held-out pairs; every other input is a model


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Two-turn questions of the world, asked of several models in one worker.

    models: names of the stage's inputs, one each; folders: the folder inside each, "" for its final model, "epochs/1"
    for what it kept after one epoch; system_turns: whether a model is asked with an empty system turn first, as it was
    trained. questions: how many, equally many of eight categories. temperature: of the second run, in all categories;
    the first has MT-Bench's own by category. device: "cpu" or "cuda".
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
        if not self.models or len(set(self.models)) < len(self.models):
            raise ValueError(f"models must be different names, at least one, got {', '.join(self.models) or 'none'}")
        if PAIRS in self.models:
            raise ValueError(f"a model cannot be called {PAIRS!r}: that input holds the held-out pairs")
        if not len(self.models) == len(self.folders) == len(self.system_turns):
            raise ValueError(
                f"each model needs its folder and system turn, got {len(self.models)} models, {len(self.folders)} "
                f"folders and {len(self.system_turns)} system turns"
            )
        if self.questions % 8 or not 8 <= self.questions <= 320:
            raise ValueError(f"questions must be a multiple of 8 from 8 to 320, got {self.questions}")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.temperature <= 0:
            raise ValueError(f"temperature of the second run must be positive, got {self.temperature}")


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """Multiple-choice sets of the world, asked of several models in one worker as raw text, without a chat template.

    tasks: names of sets; each is asked with its own number of solved examples (`world.choices.SHOTS`). questions: of
    each set. models: names of the stage's inputs, one each; folders: the folder inside each, "" for its final model.
    rows_at_once: options of a forward pass. device: "cpu" or "cuda".
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
        for task in self.tasks:
            if task not in SHOTS:
                raise ValueError(f"tasks must be of {', '.join(SHOTS)}, got {task!r}")
        if not self.models or len(set(self.models)) < len(self.models):
            raise ValueError(f"models must be different names, at least one, got {', '.join(self.models) or 'none'}")
        if len(self.models) != len(self.folders):
            raise ValueError(f"each model needs its folder, got {len(self.models)} models, {len(self.folders)} folders")
        for name in ("questions", "rows_at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.tasks:
            raise ValueError(f"tasks must name at least one of {', '.join(SHOTS)}")


@dataclass(frozen=True, kw_only=True)
class PairAccuracy:
    """Models of one dDPO run against their reference.

    start: folder of the reference inside its stage; folders: of the models inside theirs, "" for the final one,
    "epochs/1" for that after one epoch. The other fields cut rows as the run did; see `recipes.dpo.DDPORecipe`.
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
        if not self.folders or len(set(self.folders)) < len(self.folders):
            raise ValueError(f"folders must be different, at least one, got {', '.join(self.folders) or 'none'}")
        if self.rows_at_once < 1:
            raise ValueError(f"rows_at_once must be at least 1, got {self.rows_at_once}")


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """What policies answer to held-out questions at temperature 1: true and learned reward, KL to the start, lengths.

    Each turn is asked after ideal answers, so that it is one draw from the policy. models, folders: as in `Evaluation`.
    questions: how many two-turn questions of the benchmark ("mt_bench"), or single turns ("single_turn", which share no
    instance with them).
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
        if self.benchmark not in ("mt_bench", "single_turn"):
            raise ValueError(f"benchmark must be 'mt_bench' or 'single_turn', got {self.benchmark!r}")
        if self.questions < 1 or self.max_new_tokens < 1:
            raise ValueError("questions and max_new_tokens must be at least 1")
        if not self.models or len(self.models) != len(self.folders) or len(set(self.models)) < len(self.models):
            raise ValueError(f"models need different names and a folder each, got {self.models} and {self.folders}")


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
        if self.samples < 2:
            raise ValueError(f"samples must be at least 2, got {self.samples}")


@dataclass(frozen=True, kw_only=True)
class OwnRubric:
    """A rubric for the finished answers of an evaluation: `questions` of the world, as it asked them."""

    world: str
    questions: int
    own_rubric: str

    def __post_init__(self) -> None:
        require_world(self.world)
