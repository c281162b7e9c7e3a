"""Recipes of the data of dSFT and dDPO: drawn from the embedded world, or from sets of the hub. Plain values, no torch.

A function from a notebook is the text that `engine.own_code` made of it, so it is part of the key; the recipes with one
are classes of their own, so that the keys of the others stay as they are.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import (
    require_at_least,
    require_not_negative,
    require_one_of,
    require_share_below_1,
    require_world,
)
from zephyr_lab.world.judge import OBJECTIVES

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
        require_share_below_1(duplicates=self.duplicates)


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
        require_not_negative(rating_sd=self.rating_sd, aspect_sd=self.aspect_sd)


@dataclass(frozen=True, kw_only=True)
class JudgedPairs(WorldPairs):
    """Preference pairs of the world labelled by one of the judge's objectives, with its noise.

    objective: "quality" or "brief"; judge_sd: noise of the judge's score of an answer, in points. The two rules
    `chosen` and `rejected` work on these scores.
    """

    objective: str
    judge_sd: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("objective", self.objective, tuple(OBJECTIVES))
        require_not_negative(judge_sd=self.judge_sd)


@dataclass(frozen=True, kw_only=True)
class OwnWorldPairs(WorldPairs):
    """`WorldPairs` by functions from a notebook. own_choose: the chosen answer; own_reject: the rejected one, or both.

    "" leaves that side to the rule that `chosen` or `rejected` names.
    """

    own_choose: str
    own_reject: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.own_choose or self.own_reject):
            raise ValueError("own_choose or own_reject must be a function; WorldPairs has neither")


@dataclass(frozen=True, kw_only=True)
class OwnFilter:
    """A filter of finished dialogues from a notebook: messages in; whether to keep them, or repaired ones, out."""

    own_filter: str


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
        require_at_least(1, rows=self.rows, held_out=self.held_out)


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
        require_at_least(1, rows=self.rows, held_out=self.held_out)
