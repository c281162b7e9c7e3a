"""Recipes of Zephyr's steps: the data of dSFT and dDPO drawn from the embedded world, and the two trainings.

Plain values only, no torch: stage keys are computed from these. Whatever the paper, its code and its model cards
disagree about is a field here; `zephyr_settings` gives the five published combinations.
"""

from dataclasses import dataclass

from zephyr_lab.training.recipes.limits import require_at_least, require_one_of
from zephyr_lab.training.recipes.worlds import require_world

NOISES = ("clean", "web", "dialogues", "teacher", "strong", "medium", "weak", "poor")  # of world.defects
SCHEDULES = ("cosine", "linear", "constant")
OPTIMIZERS = ("adamw", "muon", "rmsprop")
LONG_PROMPTS = ("cut_left", "set_aside")
EQUAL_ANSWERS = ("keep", "set_aside")
DEVICES = ("cpu", "cuda")


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
        _require_share(duplicates=self.duplicates)


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
        _require_share(warmup=self.warmup)
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


@dataclass(frozen=True, kw_only=True)
class DSFTRecipe(Training):
    """Distilled supervised fine-tuning on dialogues.

    answers_only: loss on the assistant's tokens (the paper's objective), or on all (what its code did). packed: rows
    filled up with several dialogues that do not see each other.
    """

    answers_only: bool
    packed: bool


@dataclass(frozen=True, kw_only=True)
class DDPORecipe(Training):
    """Distilled direct preference optimisation on pairs.

    long_prompts: what becomes of a prompt beyond `max_prompt_length` tokens: its beginning is cut off, as the published
    script did, or the pair is set aside. equal_answers: whether pairs of equal texts, which teach nothing and can never
    be won, stay. other_reference: allow a reference that is not the policy's start. shared_prompt: compute each pair's
    prompt once (`training.shared_prompt_dpo`); False is TRL's own path, for models and settings that need it.
    sampled_prompts: held-out prompts that the trained policy answers at temperature 1, for its KL to the reference and
    its lengths; sampled_tokens: the most that an answer may have.
    """

    beta: float
    max_prompt_length: int
    long_prompts: str
    equal_answers: str
    other_reference: bool
    shared_prompt: bool
    sampled_prompts: int
    sampled_tokens: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("long_prompts", self.long_prompts, LONG_PROMPTS)
        require_one_of("equal_answers", self.equal_answers, EQUAL_ANSWERS)
        require_at_least(1, sampled_prompts=self.sampled_prompts, sampled_tokens=self.sampled_tokens)
        if self.beta <= 0:
            raise ValueError(f"beta must be positive, got {self.beta} (Zephyr trains with 0.1)")
        if not 1 <= self.max_prompt_length < self.max_length:
            raise ValueError(
                f"max_prompt_length must be from 1 to max_length - 1 = {self.max_length - 1}, "
                f"got {self.max_prompt_length}"
            )


def _require_share(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be a share from 0 to below 1, got {value}")
