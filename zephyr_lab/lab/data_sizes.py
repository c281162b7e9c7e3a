"""How much the data notebooks draw at a profile, and what they plant: tables of papers/overview/settings.toml."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.world.facts import WorldSize


@dataclass(frozen=True, kw_only=True)
class WorldTour:
    """`prompts` a seed, each with four answers. The rest is planted: noise (sd), position and length bias of judges of
    answers and of pairs, and noise of the overall rating. `bases`: the most base models that are probed."""

    world: str
    prompts: int
    noise_sds: tuple[float, ...]
    position_biases: tuple[float, ...]
    length_biases: tuple[float, ...]
    rating_sds: tuple[float, ...]
    bases: int

    def __post_init__(self) -> None:
        require_world(self.world)
        if self.prompts < 2 or self.bases < 1:
            raise ValueError(f"prompts must be at least 2 and bases 1, got {self.prompts} and {self.bases}")

    @property
    def size(self) -> WorldSize:
        return require_world(self.world)


@dataclass(frozen=True, kw_only=True)
class Filtering:
    """`rows` dialogues a seed; shares of them repeat an earlier one, or ask a benchmark question."""

    world: str
    rows: int
    duplicates: float
    contamination: float

    def __post_init__(self) -> None:
        require_world(self.world)


@dataclass(frozen=True, kw_only=True)
class PreferencePairs:
    """`prompts` a seed, each with four answers."""

    world: str
    prompts: int

    def __post_init__(self) -> None:
        require_world(self.world)
        if self.prompts < 2:
            raise ValueError(f"prompts must be at least 2, got {self.prompts}")

    @property
    def size(self) -> WorldSize:
        return require_world(self.world)
