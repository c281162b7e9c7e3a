"""Settings of a draft's training, and the recipe of a stage that trains several: from nothing or adapted, an arm each.

Plain values only, no torch. `methods.draft.train_draft` trains one; `methods.stages.draft` builds a recipe's arms and
says what it writes.
"""

from dataclasses import dataclass, fields

from zephyr_lab.methods.recipes import limits
from zephyr_lab.models.draft_shape import PARTS

KINDS = ("feature", "causal")
STARTS = ("new", "draft", "fresh_private")
REDUCTIONS = ("tokens", "padded")
COUNTED = ("predicted", "input")
FEATURES = ("kept", "each_step")
EMBEDDINGS = ("draft", "target")
OPTIMIZERS = ("adamw", "muon")
NOTHING = "none"  # the part of an arm that is not trained
FEATURE_PARTS = ("private", "private_and_fc", "fc")  # of a feature draft alone
PUBLISHED_STEPS, PUBLISHED_WARMUP = 5046, 2000


@dataclass(frozen=True, kw_only=True)
class DraftSteps:
    """Loss and steps of a draft's training; the defaults are the authors' (papers/eda/NOTES.md) but where said.

    Loss (feature drafts): feature_weight x SmoothL1 + token_weight x soft cross entropy; a causal draft has the latter
    alone. reduction: sums are divided by the tokens that count ("tokens"), or by rows x padded length ("padded", the
    authors' code). counted: positions whose predicted token belongs to an answer ("predicted"), or whose input token
    does ("input", the authors' code). noise: width of the uniform noise on input features (0.2 in the authors' code),
    0 for none. The defaults of these three are the paper's text, as papers/eda/NOTES.md 6 reads it.

    Training: steps of `batch` rows, `micro_batch` of them through the models at once (a choice of memory);
    learning_rate: the peak, reached after `warmup` steps (None: the authors' share of all, 2000 of 5046), `final_share`
    of it at the end (of their linear decay over 800,000 steps, where 5046 end). clip: largest gradient norm.
    max_length: tokens of a row. system_turn: put an empty system turn first. features: "kept" computes each row's
    features once and keeps them in memory, "each_step" computes them in each step. checkpoint_every: in steps.
    """

    feature_weight: float = 1.0
    token_weight: float = 0.1
    reduction: str = "tokens"
    counted: str = "predicted"
    noise: float = 0.0
    steps: int = PUBLISHED_STEPS
    batch: int = 256
    micro_batch: int = 8
    learning_rate: float = 2e-4
    warmup: int | None = None
    final_share: float = 0.996
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    clip: float = 0.5
    max_length: int = 2048
    system_turn: bool = False
    features: str = "each_step"
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        limits.require_one_of("reduction", self.reduction, REDUCTIONS)
        limits.require_one_of("counted", self.counted, COUNTED)
        limits.require_one_of("optimizer", self.optimizer, OPTIMIZERS)
        limits.require_one_of("features", self.features, FEATURES)
        limits.require_at_least(
            1, steps=self.steps, batch=self.batch, micro_batch=self.micro_batch, checkpoint_every=self.checkpoint_every
        )
        if self.warmup is None:
            object.__setattr__(self, "warmup", self.steps * PUBLISHED_WARMUP // PUBLISHED_STEPS)
        limits.require_warmup(self.warmup, self.steps)
        limits.require_share(final_share=self.final_share)
        limits.require_positive(learning_rate=self.learning_rate, clip=self.clip)
        limits.require_not_negative(
            noise=self.noise,
            weight_decay=self.weight_decay,
            feature_weight=self.feature_weight,
            token_weight=self.token_weight,
        )
        limits.require_at_least(3, max_length=self.max_length)


@dataclass(frozen=True, kw_only=True)
class DraftTraining(DraftSteps):
    """Settings of `train_draft`.

    part: what trains, of `models.draft_shape.PARTS` but "none": "all", "lora" (adapters of `rank` on every linear map;
    a causal draft has these two), "private" (the private experts and their router), "private_and_fc" (EDA's second
    stage, as the authors' scripts run it), "fc". rank: LoRA's, 0 for other parts.
    """

    part: str = "all"
    rank: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        limits.require_one_of("part", self.part, tuple(part for part in PARTS if part != NOTHING))
        if (self.part == "lora") != (self.rank > 0):
            raise ValueError(
                f"LoRA needs a rank of at least 1 and other parts 0, got part = {self.part!r} and rank = {self.rank}"
            )


@dataclass(frozen=True, kw_only=True)
class DraftRecipe(DraftSteps):
    """Drafts of one target, one an arm; all arms take the same number of steps over the same kind of rows.

    Arms (tuples of equal length, a place an arm):
    arms: names, folders of the result. parts: what each trains, see `DraftTraining`, or "none". ranks: LoRA's rank, 0
    for other parts. starts: "new" (random weights), "draft" (all weights of input "draft"), "fresh_private" (those,
    but private experts and their router random again: the paper's second stage). data: the stage's input that holds
    the arm's dialogues.

    Model:
    target_folder, draft_folder: folders inside inputs "target" and "draft"; a draft's folder is its arm's name.
    kind: "feature" (the paper's) or "causal" (a small Mistral of `layers` layers, which has no private part).
    hidden, layers: of a causal draft, 0 for a feature draft, which has the target's width and one layer.
    heads, kv_heads, shared_experts, private_experts, shared_width, private_width, top, routers: see `DraftShape`; a
    causal draft's feed-forward width is `shared_width`. Where a start is "draft" the stored sizes must be these; where
    it is "fresh_private" only private_experts and private_width may differ.
    embedding: whose the frozen embedding of an adapted draft is; "draft" is what the authors' code ends with.
    keep_at: steps after which a copy is kept beside the final draft, to compare arms at equal time.
    """

    arms: tuple[str, ...]
    parts: tuple[str, ...]
    ranks: tuple[int, ...]
    starts: tuple[str, ...]
    data: tuple[str, ...]
    target_folder: str
    draft_folder: str
    kind: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    shared_experts: int
    private_experts: int
    shared_width: int
    private_width: int
    top: int
    routers: bool
    embedding: str
    keep_at: tuple[int, ...]
    device: str

    def __post_init__(self) -> None:
        super().__post_init__()
        limits.require_different("arms", self.arms)
        columns = {"parts": self.parts, "ranks": self.ranks, "starts": self.starts, "data": self.data}
        for name, column in columns.items():
            if len(column) != len(self.arms):
                raise ValueError(f"{name}: need one for each of {len(self.arms)} arms, got {len(column)}")
        for arm, part, rank, start in zip(self.arms, self.parts, self.ranks, self.starts, strict=True):
            self._require_arm(arm, part, rank, start)
        limits.require_one_of("kind", self.kind, KINDS)
        limits.require_one_of("embedding", self.embedding, EMBEDDINGS)
        limits.require_device(self.device)
        limits.require_at_least(1, heads=self.heads, kv_heads=self.kv_heads, shared_width=self.shared_width)
        if any(not 1 <= step < self.steps for step in self.keep_at):
            raise ValueError(f"keep_at must lie from 1 to steps - 1 = {self.steps - 1}, got {self.keep_at}")
        if self.kind == "causal" and (min(self.hidden, self.layers) < 1 or self.private_experts):
            raise ValueError("a causal draft needs hidden and layers of at least 1 and private_experts 0")
        if self.kind == "feature" and (self.hidden or self.layers):
            raise ValueError("a feature draft has the target's width and one layer: hidden and layers must be 0")

    def training(self, part: str, rank: int) -> DraftTraining:
        """The settings of one arm's training."""
        steps = {field.name: getattr(self, field.name) for field in fields(DraftSteps)}
        return DraftTraining(part=part, rank=rank, **steps)

    def _require_arm(self, arm: str, part: str, rank: int, start: str) -> None:
        limits.require_one_of(f"the part of {arm!r}", part, PARTS)
        limits.require_one_of(f"the start of {arm!r}", start, STARTS)
        if (part == "lora") != (rank > 0):
            raise ValueError(f"ranks: LoRA needs a rank of at least 1 and other parts 0, {arm!r} trains {part}: {rank}")
        if self.kind == "causal" and (part in FEATURE_PARTS or start == "fresh_private"):
            raise ValueError(f"{arm!r}: a causal draft has no private experts and no fc; it can train all, lora, none")
