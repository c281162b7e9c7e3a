"""The recipes of Zephyr by source: what the paper, its code at two dates and its two model cards set, field by field.

Five named settings of the same two recipes. Where a source is silent its value is filled in from the nearest one, and
the setting says so. Sources: arXiv 2310.16944 sections 4.3 and 4.4; alignment-handbook a0b8d49 (2023) and f0ffa0d
(2024); the cards of zephyr-7b-alpha and zephyr-7b-beta, whose beta is the slope of their own logs.
"""

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

from zephyr_lab.methods.recipes.data import HubPairs, WorldPairs
from zephyr_lab.methods.recipes.pairs import DDPORecipe
from zephyr_lab.methods.recipes.training import DSFTRecipe

Recipe = TypeVar("Recipe", DSFTRecipe, DDPORecipe, WorldPairs, HubPairs)


@dataclass(frozen=True, kw_only=True)
class DSFTFields:
    """Fields of `DSFTRecipe` that a source states, at the published size."""

    epochs: int = 1
    batch: int
    learning_rate: float = 2e-5
    schedule: str = "cosine"
    warmup: float
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    max_length: int = 2048
    packed: bool = True
    answers_only: bool
    system_turn: bool


@dataclass(frozen=True, kw_only=True)
class DDPOFields:
    """Fields of `DDPORecipe` that a source states, at the published size."""

    epochs: int
    batch: int
    learning_rate: float = 5e-7
    schedule: str = "linear"
    warmup: float = 0.1
    beta: float
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    max_length: int = 1024
    max_prompt_length: int = 512
    long_prompts: str = "cut_left"
    system_turn: bool


@dataclass(frozen=True, kw_only=True)
class PairsFields:
    """Fields of `WorldPairs` that a source states: how the published pairs were made."""

    chosen: str
    rejected: str


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One source's recipe. `filled_in`: the fields that it does not state."""

    source: str
    dsft: DSFTFields
    ddpo: DDPOFields
    pairs: PairsFields
    filled_in: tuple[str, ...]


_FIRST_RELEASE = PairsFields(chosen="overall_score", rejected="first_release")
_HANDBOOK_2023_DSFT = DSFTFields(batch=512, warmup=0.0, answers_only=False, system_turn=True)
_DSFT_FILLED_IN = tuple(f"dsft.{field.name}" for field in dataclasses.fields(DSFTFields))
_LENGTHS = ("ddpo.max_length", "ddpo.max_prompt_length", "ddpo.long_prompts")

PAPER = "paper"  # the setting that settings.toml states
SETTINGS = {
    PAPER: Setting(
        source="arXiv 2310.16944, sections 3, 4.3 and 4.4",
        dsft=DSFTFields(batch=512, warmup=0.1, answers_only=True, system_turn=False),
        ddpo=DDPOFields(epochs=3, batch=32, beta=0.1, system_turn=False),
        pairs=PairsFields(chosen="mean_rating", rejected="random"),
        filled_in=("dsft.system_turn", "ddpo.system_turn", *_LENGTHS),
    ),
    "handbook 2023": Setting(
        source="alignment-handbook a0b8d49, zephyr-7b-beta config_full",
        dsft=_HANDBOOK_2023_DSFT,
        ddpo=DDPOFields(epochs=3, batch=64, beta=0.1, optimizer="rmsprop", system_turn=True),
        pairs=_FIRST_RELEASE,
        filled_in=(),
    ),
    "handbook 2024": Setting(
        source="alignment-handbook f0ffa0d, zephyr-7b-beta config_full",
        dsft=DSFTFields(batch=128, warmup=0.1, answers_only=False, system_turn=True),
        ddpo=DDPOFields(epochs=1, batch=128, schedule="cosine", beta=0.01, system_turn=True),
        pairs=PairsFields(chosen="overall_score", rejected="random"),
        filled_in=(),
    ),
    "alpha card": Setting(
        source="card and log of zephyr-7b-alpha; dSFT as handbook 2023",
        dsft=_HANDBOOK_2023_DSFT,
        ddpo=DDPOFields(epochs=1, batch=32, beta=0.05, system_turn=True),
        pairs=_FIRST_RELEASE,
        filled_in=(*_DSFT_FILLED_IN, "ddpo.system_turn", *_LENGTHS, "pairs.chosen", "pairs.rejected"),
    ),
    "beta card": Setting(
        source="card and log of zephyr-7b-beta; dSFT as handbook 2023",
        dsft=_HANDBOOK_2023_DSFT,
        ddpo=DDPOFields(epochs=3, batch=32, beta=0.1, system_turn=True),
        pairs=_FIRST_RELEASE,
        filled_in=(*_DSFT_FILLED_IN, "ddpo.system_turn", *_LENGTHS),
    ),
}
_RATIOS = ("batch", "learning_rate")  # of a size, not of a method: carried over relative to the paper's


def in_setting(name: str, part: str, ours: Recipe) -> Recipe:
    """`ours`, a recipe in place of the paper's `part` ("dsft", "ddpo", "pairs"), as setting `name` has it.

    The paper's setting is `ours` itself, whatever it says. Another touches the fields alone in which it differs from
    the paper: `batch` and `learning_rate` keep their ratio to the paper's (64 pairs against 32 double `ours.batch`);
    the others are taken over. Raises ValueError for an unknown name, or where the ratio gives no whole batch.
    """
    setting, paper = getattr(named(name), part), getattr(SETTINGS[PAPER], part)
    changes = {field: value for field, value in vars(setting).items() if value != getattr(paper, field)}
    for field in _RATIOS:
        if field in changes:
            changes[field] = getattr(ours, field) * (changes[field] / getattr(paper, field))
    if "batch" in changes:
        changes["batch"] = _whole_batch(name, changes["batch"])
        changes["micro_batch"] = min(ours.micro_batch, changes["batch"])  # type: ignore[union-attr]
    return dataclasses.replace(ours, **changes)


def named(name: str) -> Setting:
    """The setting `name`. Raises ValueError naming those that exist."""
    if name not in SETTINGS:
        raise ValueError(f"no recipe setting named {name!r}; known: {', '.join(SETTINGS)}")
    return SETTINGS[name]


def differing_fields(part: str) -> tuple[str, ...]:
    """Fields of `part` ("dsft", "ddpo" or "pairs") about which the settings disagree, in the recipe's order."""
    rows = [getattr(setting, part) for setting in SETTINGS.values()]
    names = [field.name for field in dataclasses.fields(rows[0])]
    return tuple(name for name in names if len({getattr(row, name) for row in rows}) > 1)


def _whole_batch(name: str, batch: float) -> int:
    if batch < 1 or batch != int(batch):
        raise ValueError(f"setting {name!r} would need a batch of {batch:g} rows at this scale; take a larger batch")
    return int(batch)
