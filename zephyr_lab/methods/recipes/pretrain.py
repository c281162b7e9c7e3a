"""Settings of a base model's training, and the recipes of base models: trained on the world, or taken from the hub."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_at_least, require_positive, require_warmup, require_world


@dataclass(frozen=True, kw_only=True)
class BaseTraining:
    """Settings of `train_base`; the defaults are those of the lab's tiny base (papers/zephyr/settings.toml).

    rows x row_length: tokens of a batch, padding counted. learning_rate, warmup, final_share: peak, steps up to it,
    share of it at the end (cosine). clip: gradient norm. checkpoint_every: in steps.
    """

    rows: int = 8
    row_length: int = 128
    steps: int = 3200
    learning_rate: float = 1e-2
    weight_decay: float = 0.1
    warmup: int = 30
    final_share: float = 0.1
    clip: float = 1.0
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        require_at_least(
            1, rows=self.rows, row_length=self.row_length, steps=self.steps, checkpoint_every=self.checkpoint_every
        )
        require_warmup(self.warmup, self.steps)
        require_positive(learning_rate=self.learning_rate, clip=self.clip)


@dataclass(frozen=True, kw_only=True)
class Pretrain(BaseTraining):
    """A Mistral from scratch on the text of the embedded world.

    documents: how many the corpus has (read again from the start, in another order, where `steps` ask for more);
    tokenizer_documents: how many of another corpus, the same for all seeds, the tokenizer sees. hidden ... context:
    sizes, see `models.mistral.MistralShape`. device: "cpu" (float32) or "cuda" (bfloat16 autocast).
    """

    world: str
    documents: int
    tokenizer_documents: int
    entries: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    window: int
    context: int
    device: str

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("entries", "hidden", "layers", "heads", "kv_heads", "ffn", "window", "context")
        for name in ("documents", "tokenizer_documents", *sizes):
            require_at_least(1, **{name: getattr(self, name)})
        require_world(self.world)
        if self.row_length > self.context:
            raise ValueError(f"row_length {self.row_length} exceeds the model's context of {self.context} positions")


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A model of the hub by name ("owner/name") and revision (a commit, tag or branch)."""

    model: str
    revision: str
