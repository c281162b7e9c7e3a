"""Recipes of the data of dSFT and dDPO, drawn from the embedded world. Plain values, no torch."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_at_least, require_one_of, require_world
from zephyr_lab.world.objectives import OBJECTIVES

NOISES = ("clean", "web", "dialogues", "teacher", "strong", "medium", "weak", "poor")  # of world.defects


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


@dataclass(frozen=True, kw_only=True)
class HubDialogues:
    """Dialogues of a set by id ("owner/name") and revision; `train`, `test`: its splits.

    rows, held_out: how many are drawn of each split, all where it has fewer; filters: names of `data.filters` rules.
    """

    id: str
    revision: str
    train: str
    test: str
    rows: int
    held_out: int
    filters: tuple[str, ...]

    def __post_init__(self) -> None:
        _require_rows(self.rows, self.held_out)


@dataclass(frozen=True, kw_only=True)
class HubPairs:
    """Scored completions of a set, `split`, binarised here: `rows` prompts drawn, `held_out` more for the test.

    chosen, rejected: rules of `data.pairs`. most_chosen: pairs whose chosen answer scores above it are left out, which
    brings the chosen answers nearer to the dSFT data; infinity leaves none out.
    """

    id: str
    revision: str
    split: str
    rows: int
    held_out: int
    chosen: str
    rejected: str
    most_chosen: float

    def __post_init__(self) -> None:
        _require_rows(self.rows, self.held_out)


def _require_rows(rows: int, held_out: int) -> None:
    if rows < 1 or held_out < 1:
        raise ValueError(f"rows and held_out must be at least 1, got {rows} and {held_out}")


@dataclass(frozen=True, kw_only=True)
class JudgedPairs(WorldPairs):
    """Preference pairs of the world whose best answer is told by one of the judge's objectives, with its noise.

    objective: "quality" or "brief"; judge_sd: noise of the judge's score of an answer, in points. The two rules
    `chosen` and `rejected` work on these scores.
    """

    objective: str
    judge_sd: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        if self.judge_sd < 0:
            raise ValueError(f"judge_sd must not be negative, got {self.judge_sd}")


@dataclass(frozen=True, kw_only=True)
class OwnFilter:
    """A filter of finished dialogues, their messages in and whether to keep them, or repaired ones, out."""

    own_filter: str


@dataclass(frozen=True, kw_only=True)
class OwnWorldPairs(WorldPairs):
    """`WorldPairs` with a choice of one's own. own_choose: the chosen answer; own_reject: the rejected one, or both.

    "" leaves that side to the rule that `chosen` or `rejected` names.
    """

    own_choose: str
    own_reject: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.own_choose or self.own_reject):
            raise ValueError("own_choose or own_reject must be a function; WorldPairs has neither")
