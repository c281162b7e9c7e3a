"""Recipes of what is looked up in single models: attention maps, bytes of the cache, skills. Plain values, no torch."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_at_least, require_device, require_folders, require_world


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """What several models attend to while they read one dialogue.

    models: names of inputs, one each; folders: inside each, "" for its final model. longest: tokens that are read; the
    first held-out dialogue that has no more, else the beginning of the first.
    """

    models: tuple[str, ...]
    folders: tuple[str, ...]
    longest: int
    device: str

    def __post_init__(self) -> None:
        require_folders(self.models, self.folders)
        require_at_least(2, longest=self.longest)
        require_device(self.device)


@dataclass(frozen=True, kw_only=True)
class KVCache:
    """The cache of the input "base" after 1, 2, ... `windows` windows of text, as far as its positions reach.

    windows: 2 or more, for one is compared with the next. full_attention_tokens: the length that stands for a window in
    a model that has none. device: "cpu" or "cuda".
    """

    windows: int
    full_attention_tokens: int
    device: str

    def __post_init__(self) -> None:
        require_at_least(2, windows=self.windows)
        require_at_least(1, full_attention_tokens=self.full_attention_tokens)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """`tasks` two-turn tasks of each category of the world, benchmark side."""

    world: str
    tasks: int

    def __post_init__(self) -> None:
        require_world(self.world)
        require_at_least(1, tasks=self.tasks)
