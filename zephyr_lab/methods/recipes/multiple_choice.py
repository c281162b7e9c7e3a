"""Recipe of the academic benchmarks: which models are asked which multiple-choice sets."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.world.choices import SHOTS


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
