"""Recipe of an evaluation: which models answer which questions, and how they are sampled."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.worlds import require_world

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
