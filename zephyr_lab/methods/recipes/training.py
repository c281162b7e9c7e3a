"""What the recipes of all trainings by a library's trainer share, SFT's among them. Plain values, no torch."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeVar

from zephyr_lab.methods.recipes.limits import (
    require_at_least,
    require_device,
    require_not_negative,
    require_one_of,
    require_positive,
    require_share_below_1,
)

Settings = TypeVar("Settings")
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}  # and the libraries' words
OPTIMIZERS = ("adamw", "muon", "rmsprop")
# Fields that say where, how fast and how talkative, not what is learned: no knobs.
HOUSEKEEPING = frozenset({
    "world", "start", "reward", "device", "log_every", "evaluate_every", "checkpoint_every", "keep", "keep_epochs",
    "micro_batch", "system_turn", "sampled_prompts", "sampled_tokens", "other_reference", "shared_prompt",
    "prompts", "algorithm",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings that training functions share, with defaults for a call of one's own; the lab's are in settings.toml.

    batch: rows of an optimiser step, `micro_batch` of them at once (0: as many as divide the batch, eight at most).
    learning_rate: the peak; warmup: share of all steps on the way up. clip: largest gradient norm. max_length: tokens
    of a row. system_turn: put an empty system turn first. log_every, evaluate_every, checkpoint_every: in steps; 0 for
    evaluate_every: no curve on held-out rows.
    """

    epochs: int = 1
    batch: int = 32
    micro_batch: int = 0
    learning_rate: float = 2e-5
    schedule: str = "cosine"
    warmup: float = 0.1
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    clip: float = 1.0
    max_length: int = 2048
    system_turn: bool = False
    log_every: int = 1
    evaluate_every: int = 0
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        require_one_of("schedule", self.schedule, tuple(SCHEDULES))
        require_one_of("optimizer", self.optimizer, OPTIMIZERS)
        require_at_least(
            1, epochs=self.epochs, batch=self.batch, log_every=self.log_every, checkpoint_every=self.checkpoint_every
        )
        require_at_least(0, evaluate_every=self.evaluate_every, micro_batch=self.micro_batch)
        require_at_least(2, max_length=self.max_length)
        require_share_below_1(warmup=self.warmup)
        require_positive(learning_rate=self.learning_rate, clip=self.clip)
        require_not_negative(weight_decay=self.weight_decay)
        if self.micro_batch == 0:
            object.__setattr__(self, "micro_batch", math.gcd(self.batch, 8))
        if self.batch % self.micro_batch:
            raise ValueError(f"batch must be a multiple of micro_batch, got {self.batch} and {self.micro_batch}")
        if self.checkpoint_every % self.log_every:
            # The trainer averages what it logs since the last log; a checkpoint in between would lose half of it.
            raise ValueError(
                f"checkpoint_every must be a multiple of log_every, got {self.checkpoint_every} and {self.log_every}"
            )


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What a training needs beyond its settings when it is a stage.

    start: folder inside the starting stage, "" for its final model, "epochs/1" for what it kept after one epoch.
    keep_epochs: keep the model of each epoch beside the final one.
    """

    start: str
    keep_epochs: bool
    device: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require_device(self.device)


@dataclass(frozen=True, kw_only=True)
class SFT(Training):
    """Supervised fine-tuning on dialogues (dSFT), Zephyr's first step.

    answers_only: loss on the assistant's tokens (the paper's objective), or on all (what its code did). packed: rows
    filled up with several dialogues that do not see each other.
    """

    answers_only: bool = True
    packed: bool = False


@dataclass(frozen=True, kw_only=True)
class DSFTRecipe(Staged, SFT):
    """`SFT` as a stage."""


@dataclass(frozen=True, kw_only=True)
class LoRASFT(DSFTRecipe):
    """`SFT` as a stage, of a LoRA adapter of rank `lora` on all linear layers but the head, merged at the end."""

    lora: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, lora=self.lora)
        if self.keep_epochs:
            raise ValueError("keep_epochs keeps whole models, and LoRA's is merged at the end alone; leave it out")


def knobs(recipe: Any) -> tuple[str, ...]:
    """Fields of a recipe that shape what is learned: what somebody who uses the method must set."""
    return tuple(field.name for field in dataclasses.fields(recipe) if field.name not in HOUSEKEEPING)


def settings_of(recipe: Any, kind: type[Settings]) -> Settings:
    """The settings `kind` of a training function out of a stage's `recipe`, without what is the stage's own.

    A stage's recipe may give the name of what the function takes as an object: `reward`, `loss`.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(recipe, name) for name in names})
