"""Recipe of a base model: what text, what model, how long."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.worlds import require_world


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """A Mistral from scratch on the text of the embedded world.

    world: "tiny" or "large"; documents: how many the corpus has (read again from the start, in another order, where
    `steps` ask for more); tokenizer_documents: how many of another corpus, the same for all seeds, the tokenizer sees.
    hidden ... context: sizes, see `models.mistral.MistralShape`. rows x row_length: tokens of a batch, padding counted.
    learning_rate, warmup, final_share: peak, steps up to it, share of it at the end (cosine). clip: gradient norm.
    device: "cpu" (float32) or "cuda" (bfloat16 autocast).
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
    rows: int
    row_length: int
    steps: int
    learning_rate: float
    weight_decay: float
    warmup: int
    final_share: float
    clip: float
    checkpoint_every: int
    device: str

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int) and value < (0 if name == "warmup" else 1):
                raise ValueError(f"{name} must be at least 1, got {value}")
        require_world(self.world)
        if self.learning_rate <= 0 or self.clip <= 0:
            raise ValueError(f"learning_rate and clip must be positive, got {self.learning_rate} and {self.clip}")
        if self.row_length > self.context:
            raise ValueError(f"row_length {self.row_length} exceeds the model's context of {self.context} positions")
