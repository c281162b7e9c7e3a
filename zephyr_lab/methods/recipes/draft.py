"""Recipe of a draft's training: made from nothing for one target, or adapted to another in several arms at once.

Plain values only, no torch. `zephyr_lab.methods.draft` builds it and says what it writes.
"""

from dataclasses import dataclass

from zephyr_lab.models.draft_shape import PARTS

KINDS = ("feature", "causal")
STARTS = ("new", "draft", "fresh_private")
REDUCTIONS = ("tokens", "padded")
COUNTED = ("predicted", "input")
EMBEDDINGS = ("draft", "target")
OPTIMIZERS = ("adamw", "muon")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class DraftRecipe:
    """Drafts of one target, one an arm; all arms take the same number of steps over the same kind of rows.

    Arms (tuples of equal length, a place an arm):
    arms: names, folders of the result. parts: what each trains, of `models.draft_shape.PARTS`. ranks: LoRA's rank, 0
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

    Loss (feature drafts): feature_weight x SmoothL1 + token_weight x soft cross entropy; a causal draft has the latter
    alone. reduction: sums are divided by the tokens that count, or by rows x padded length as in the authors' code.
    counted: positions whose predicted token belongs to an answer, or whose input token does (the authors' code).
    noise: width of the uniform noise on input features (0.2 in the authors' code), 0 for none.

    Training: steps of `batch` rows, `micro_batch` of them through the models at once; learning_rate: the peak, reached
    after `warmup` steps, `final_share` of it at the end. keep_at: steps after which a copy is kept beside the final
    draft, to compare arms at equal time. max_length: tokens of a row. system_turn: put an empty system turn first.
    features: "kept" computes each row's features once and keeps them in memory, "each_step" computes them in each step.
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
    feature_weight: float
    token_weight: float
    reduction: str
    counted: str
    noise: float
    steps: int
    batch: int
    micro_batch: int
    learning_rate: float
    warmup: int
    final_share: float
    optimizer: str
    weight_decay: float
    clip: float
    keep_at: tuple[int, ...]
    max_length: int
    system_turn: bool
    features: str
    checkpoint_every: int
    device: str

    def __post_init__(self) -> None:
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise ValueError(f"arms must be different names, at least one, got {', '.join(self.arms) or 'none'}")
        for name in ("parts", "ranks", "starts", "data"):
            if len(getattr(self, name)) != len(self.arms):
                raise ValueError(f"{name}: need one for each of {len(self.arms)} arms, got {len(getattr(self, name))}")
        for arm, part, rank, start in zip(self.arms, self.parts, self.ranks, self.starts, strict=True):
            self._require_arm(arm, part, rank, start)
        for name, known in (
            ("kind", KINDS),
            ("embedding", EMBEDDINGS),
            ("reduction", REDUCTIONS),
            ("counted", COUNTED),
            ("optimizer", OPTIMIZERS),
            ("features", ("kept", "each_step")),
            ("device", DEVICES),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("steps", "batch", "micro_batch", "heads", "kv_heads", "shared_width", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"warmup must be from 0 to steps - 1 = {self.steps - 1}, got {self.warmup}")
        if any(not 1 <= step < self.steps for step in self.keep_at):
            raise ValueError(f"keep_at must lie from 1 to steps - 1 = {self.steps - 1}, got {self.keep_at}")
        if self.learning_rate <= 0 or self.clip <= 0:
            raise ValueError(f"learning_rate and clip must be positive, got {self.learning_rate} and {self.clip}")
        if min(self.noise, self.weight_decay, self.feature_weight, self.token_weight) < 0:
            raise ValueError("noise, weight_decay, feature_weight and token_weight must not be negative")
        if self.max_length < 3:
            raise ValueError(f"max_length must be at least 3, got {self.max_length}")
        if self.kind == "causal" and (min(self.hidden, self.layers) < 1 or self.private_experts):
            raise ValueError("a causal draft needs hidden and layers of at least 1 and private_experts 0")
        if self.kind == "feature" and (self.hidden or self.layers):
            raise ValueError("a feature draft has the target's width and one layer: hidden and layers must be 0")

    def _require_arm(self, arm: str, part: str, rank: int, start: str) -> None:
        if part not in PARTS:
            raise ValueError(f"parts: {arm!r} must train one of {', '.join(PARTS)}, got {part!r}")
        if start not in STARTS:
            raise ValueError(f"starts: {arm!r} must start from one of {', '.join(STARTS)}, got {start!r}")
        if (part == "lora") != (rank > 0):
            raise ValueError(f"ranks: LoRA needs a rank of at least 1 and other parts 0, {arm!r} trains {part}: {rank}")
        if self.kind == "causal" and (part in ("private", "private_and_fc", "fc") or start == "fresh_private"):
            raise ValueError(f"{arm!r}: a causal draft has no private experts and no fc; it can train all, lora, none")
