"""Recipes of the data of dSFT and dDPO, drawn from the embedded world. Plain values, no torch."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_at_least, require_one_of
from zephyr_lab.methods.recipes.worlds import require_world

NOISES = ("clean", "web", "dialogues", "teacher", "strong", "medium", "weak", "poor")  # of world.answers


@dataclass(frozen=True, kw_only=True)
class WorldDialogues:
    """Dialogues for dSFT. `rows` are drawn before filtering, `held_out` rows by the same rules under another seed.

    noise: how faulty the answers are; duplicates: share of rows repeated. filters: names of `data.filters` rules, ()
    for none.
    """

    world: str
    rows: int
    held_out: int
    noise: str
    duplicates: float
    filters: tuple[str, ...]

    def __post_init__(self) -> None:
        require_world(self.world)
        require_one_of("noise", self.noise, NOISES)
        require_at_least(1, rows=self.rows, held_out=self.held_out)
        if not 0 <= self.duplicates < 1:
            raise ValueError(f"duplicates must be a share from 0 to below 1, got {self.duplicates}")


@dataclass(frozen=True, kw_only=True)
class WorldPairs:
    """Preference pairs for dDPO: four answers a prompt by different writers, rated with noise, then binarised.

    writers: four or more noise levels; their distance from the dialogues' noise is how much cleaner the chosen answers
    are than the dSFT data. rating_sd: noise of the overall score (1 to 10); aspect_sd: of each aspect rating (1 to 5).
    chosen, rejected: rules of `data.pairs`. held_out: pairs on prompts that training lacks.
    """

    world: str
    prompts: int
    held_out: int
    writers: tuple[str, ...]
    rating_sd: float
    aspect_sd: float
    chosen: str
    rejected: str

    def __post_init__(self) -> None:
        require_world(self.world)
        require_at_least(1, prompts=self.prompts, held_out=self.held_out)
        for writer in self.writers:
            require_one_of("writers", writer, NOISES)
        if len(self.writers) < 4 or len(set(self.writers)) < len(self.writers):
            raise ValueError(f"writers must be four or more different noise levels, got {', '.join(self.writers)}")
        if self.rating_sd < 0 or self.aspect_sd < 0:
            raise ValueError(f"rating_sd and aspect_sd must not be negative, got {self.rating_sd} and {self.aspect_sd}")
