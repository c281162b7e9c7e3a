"""Recipe of attention maps: what several models look at while they read one and the same dialogue."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import DEVICES


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
