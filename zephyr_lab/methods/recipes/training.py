"""What the recipes of all trainings by a library's trainer share. Plain values, no torch."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_at_least, require_one_of

SCHEDULES = ("cosine", "linear", "constant")
OPTIMIZERS = ("adamw", "muon", "rmsprop")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Training:
    """What both trainings share.

    start: folder inside the starting stage, "" for its final model, "epochs/1" for what it kept after one epoch.
    batch: rows of an optimiser step, `micro_batch` of them at once. learning_rate: the peak; warmup: share of all steps
    on the way up. clip: largest gradient norm. max_length: tokens of a row. system_turn: put an empty system turn
    first. log_every, evaluate_every, checkpoint_every: in steps; 0 for evaluate_every: no curve on held-out rows.
    keep_epochs: keep the model of each epoch beside the final one. device: "cpu" (float32) or "cuda" (bfloat16
    autocast).
    """

    start: str
    epochs: int
    batch: int
    micro_batch: int
    learning_rate: float
    schedule: str
    warmup: float
    optimizer: str
    weight_decay: float
    clip: float
    max_length: int
    system_turn: bool
    log_every: int
    evaluate_every: int
    checkpoint_every: int
    keep_epochs: bool
    device: str

    def __post_init__(self) -> None:
        require_one_of("schedule", self.schedule, SCHEDULES)
        require_one_of("optimizer", self.optimizer, OPTIMIZERS)
        require_one_of("device", self.device, DEVICES)
        require_at_least(
            1, epochs=self.epochs, micro_batch=self.micro_batch, log_every=self.log_every,
            checkpoint_every=self.checkpoint_every,
        )  # fmt: skip
        require_at_least(0, evaluate_every=self.evaluate_every)
        require_at_least(2, max_length=self.max_length)
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup must be a share from 0 to below 1, got {self.warmup}")
        if self.learning_rate <= 0 or self.clip <= 0:
            raise ValueError(f"learning_rate and clip must be positive, got {self.learning_rate} and {self.clip}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if self.batch % self.micro_batch:
            raise ValueError(f"batch must be a multiple of micro_batch, got {self.batch} and {self.micro_batch}")
        if self.checkpoint_every % self.log_every:
            # The trainer averages what it logs since the last log; a checkpoint in between would lose half of it.
            raise ValueError(
                f"checkpoint_every must be a multiple of log_every, got {self.checkpoint_every} and {self.log_every}"
            )
