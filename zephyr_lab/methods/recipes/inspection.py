"""Recipe of attention maps: what several models look at while they read one and the same dialogue."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.training import DEVICES
from zephyr_lab.methods.recipes.worlds import require_world


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """models: names of inputs, one each; folders: inside each, "" for its final model. longest: tokens that are
    read; the first held-out dialogue that has no more, else the beginning of the first."""

    models: tuple[str, ...]
    folders: tuple[str, ...]
    longest: int
    device: str

    def __post_init__(self) -> None:
        if not self.models or len(self.models) != len(self.folders):
            raise ValueError(f"each model needs its folder, got {len(self.models)} and {len(self.folders)}")
        if self.longest < 2:
            raise ValueError(f"longest must be at least 2 tokens, got {self.longest}")
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")


@dataclass(frozen=True, kw_only=True)
class KVCache:
    """The cache of the input "base" after 1, 2, ... `windows` windows of text, as far as its positions reach.

    full_attention_tokens: the length that stands for a window in a model that has none. device: "cpu" or "cuda".
    """

    windows: int
    full_attention_tokens: int
    device: str

    def __post_init__(self) -> None:
        if self.windows < 2:
            raise ValueError(f"windows must be at least 2: one is compared with the next, got {self.windows}")
        if self.full_attention_tokens < 1:
            raise ValueError(f"full_attention_tokens must be at least 1, got {self.full_attention_tokens}")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """`tasks` two-turn tasks of each category of the world, benchmark side."""

    world: str
    tasks: int

    def __post_init__(self) -> None:
        require_world(self.world)
        if self.tasks < 1:
            raise ValueError(f"tasks must be at least 1, got {self.tasks}")
