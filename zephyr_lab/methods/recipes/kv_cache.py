"""Recipe of a count of bytes in a key-value cache."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class KVCache:
    """The cache of the input "base" after 1, 2, ... `windows` windows of text, as far as its positions reach.

    full_attention_tokens: the length that stands for a window in a model that has none. device: "cpu" or "cuda".
    """

    windows: int
    full_attention_tokens: int
    device: str

    def __post_init__(self) -> None:
        if self.windows < 2:
            raise ValueError(f"windows must be at least 2: one is compared with the next, got {self.windows}")
        if self.full_attention_tokens < 1:
            raise ValueError(f"full_attention_tokens must be at least 1, got {self.full_attention_tokens}")
