"""Recipe of the skill probe of a base model."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_world


@dataclass(frozen=True, kw_only=True)
class Probe:
    """`tasks` two-turn tasks of each category of the world, benchmark side."""

    world: str
    tasks: int

    def __post_init__(self) -> None:
        require_world(self.world)
        if self.tasks < 1:
            raise ValueError(f"tasks must be at least 1, got {self.tasks}")
