"""Recipe of holding speculative decoding against plain decoding: are answers, and distributions of tokens, the same?"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DraftLossless:
    """Greedy answers to `prompts` prompts (0: all) with and without the draft, token by token; and sampled answers of
    `sampled_tokens` tokens to the first `sampled_prompts`, `samples` each at `temperature`.

    target_folder, draft_folder: inside their stages. length: drafted tokens of a pass.
    """

    target_folder: str
    draft_folder: str
    prompts: int
    max_new_tokens: int
    length: int
    sampled_prompts: int
    samples: int
    sampled_tokens: int
    temperature: float
    device: str

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "length", "sampled_prompts", "samples", "sampled_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.prompts < 0:
            raise ValueError(f"prompts must not be negative, got {self.prompts}")
        if self.temperature <= 0:
            raise ValueError(f"temperature of the sampled answers must be positive, got {self.temperature}")
