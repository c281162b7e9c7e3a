"""The arms of adapting a draft: what is trained, on which data, under which name.

Rows of the published tables keep their names. Every part is trained on each kind of data, so that what the architecture
gives and what the data give stand apart; the paper's tables have no full retraining on regenerated data.
"""

from dataclasses import dataclass

from zephyr_lab.core import settings
from zephyr_lab.lab.draft_stages import ORIGINAL, PAPER, REGENERATED, Arm, Selected
from zephyr_lab.methods.recipes.draft_data import LOSS_TOP, RANDOM, SHIFT_BOTTOM, SHIFT_TOP

TRAINING_FREE, FULL, LORA = "Training-Free", "Full-FT", "LoRA"
EDA_BASE, EDA_OURS = "EDA (Base)", "EDA (Ours)"
PUBLISHED = (TRAINING_FREE, FULL, LORA, EDA_BASE, EDA_OURS)
EDA, MATCHED, PRIVATE, PRIVATE_1, FC = "EDA", "LoRA, matched", "private, random", "private, stage 1", "fc"
FROM_NOTHING = "Full-FT, from random"
# What each part trains (`models.draft_shape.PARTS`) and where it starts. EDA's as in the authors' scripts: private
# experts, random again, and fc.
PARTS = {
    FULL: ("all", "draft"),
    LORA: ("lora", "draft"),
    MATCHED: ("lora", "draft"),
    EDA: ("private_and_fc", "fresh_private"),
    PRIVATE: ("private", "fresh_private"),
    PRIVATE_1: ("private", "draft"),
    FC: ("fc", "draft"),
}
SELECTED = "selected"
DATA_NAMES = {ORIGINAL: "data-set answers", REGENERATED: "regenerated", SELECTED: "regenerated + selected"}


@dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """lora_rank: of the arm LoRA (the paper's is unknown); matched_rank: where LoRA trains as many parameters as EDA.

    share: selected in the main arms; shares: of the selection study. ranks: of the curve over trained parameters.
    """

    lora_rank: int
    matched_rank: int
    share: float
    shares: tuple[float, ...]
    ranks: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.share not in self.shares:
            raise ValueError(f"shares must hold the main arms' share {self.share}, got {self.shares}")


def load(profile: str) -> ArmSettings:
    """The arms' settings of a profile."""
    return settings.load(PAPER, profile, "arms", ArmSettings)


def name(part: str, data: str) -> str:
    """The arm's row: the published one where there is one, else "part, data"."""
    printed = {
        (FULL, ORIGINAL): FULL,
        (LORA, ORIGINAL): LORA,
        (EDA, ORIGINAL): EDA_BASE,
        (EDA, SELECTED): EDA_OURS,
    }
    return printed.get((part, data), f"{part}, {DATA_NAMES[data]}")


def arm(part: str, data: str, of: ArmSettings) -> Arm:
    """One arm of the grid."""
    trained, start = PARTS[part]
    rank = {LORA: of.lora_rank, MATCHED: of.matched_rank}.get(part, 0)
    rows = Selected(SHIFT_TOP, of.share) if data == SELECTED else data
    return Arm(name(part, data), trained, start, rows, rank)


def training_free() -> Arm:
    """The old draft as it is. The data are not read."""
    return Arm(TRAINING_FREE, "none", "draft", ORIGINAL)


def grid(of: ArmSettings, parts: tuple[str, ...] = tuple(PARTS)) -> list[Arm]:
    """Training-free, and every part on every kind of data."""
    return [training_free(), *(arm(part, data, of) for part in parts for data in DATA_NAMES)]


def table_arms(of: ArmSettings) -> list[Arm]:
    """The published rows, LoRA with as many parameters as EDA, and full retraining on EDA's data."""
    return [
        training_free(),
        *(arm(part, ORIGINAL, of) for part in (FULL, LORA, MATCHED, EDA)),
        *(arm(part, data, of) for data in (REGENERATED, SELECTED) for part in (FULL, EDA)),
    ]


def selection_name(rule: str, share: float, of: ArmSettings) -> str:
    """The row of EDA's part on a selection of the regenerated rows; the main arm's own where it is that selection."""
    if (rule, share) == (SHIFT_TOP, of.share):
        return EDA_OURS
    return f"{RULE_NAMES[rule]}, {100 * share:g} %"


RULE_NAMES = {
    SHIFT_TOP: "largest shift",
    RANDOM: "random",
    SHIFT_BOTTOM: "smallest shift",
    LOSS_TOP: "largest loss",
}


def selection_arms(of: ArmSettings) -> list[Arm]:
    """EDA's part on each share by each rule but the main arm's; all arms take the same number of steps."""
    part, start = PARTS[EDA]
    return [
        Arm(selection_name(rule, share, of), part, start, Selected(rule, share))
        for rule in RULE_NAMES
        for share in of.shares
        if (rule, share) != (SHIFT_TOP, of.share)
    ]


def size_name(rank: int) -> str:
    """The row of LoRA at a rank of the curve over trained parameters."""
    return f"LoRA, rank {rank}"


def size_arms(of: ArmSettings) -> list[Arm]:
    """LoRA at several ranks on the regenerated rows: points of the curve over trained parameters."""
    return [Arm(size_name(rank), "lora", "draft", REGENERATED, rank) for rank in of.ranks]


def from_nothing() -> Arm:
    """A draft made for the tuned target from random weights, on data-set answers."""
    return Arm(FROM_NOTHING, "all", "new", ORIGINAL)
