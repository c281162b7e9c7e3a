"""Recipe of the family of preference losses on one loop, so that nothing but the loss differs."""

from dataclasses import dataclass

LOSSES = ("dpo", "ipo", "cdpo", "kto", "orpo", "simpo")
WITH_REFERENCE = ("dpo", "ipo", "cdpo", "kto")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class FamilyRecipe:
    """Offline preference training of the input "policy", which is also the reference where the loss has one.

    loss: its name. strength: beta of DPO, cDPO, KTO and SimPO, tau of IPO, the weight (lambda) of ORPO. second: label
    smoothing of cDPO, gamma (the margin itself) of SimPO, 0 elsewhere. sft_weight: of an added term, -log-prob a token
    of the chosen answer. epochs over all pairs in batches of `batch`; learning_rate: the peak, after a share `warmup`
    of all steps, down to `final_share` of it (cosine). The rest cuts rows as for dDPO.
    """

    start: str
    loss: str
    strength: float
    second: float
    sft_weight: float
    epochs: int
    batch: int
    learning_rate: float
    warmup: float
    final_share: float
    clip: float
    max_length: int
    max_prompt_length: int
    long_prompts: str
    checkpoint_every: int
    device: str

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")
        if min(self.epochs, self.batch, self.checkpoint_every) < 1:
            raise ValueError("epochs, batch and checkpoint_every must be at least 1")
        if self.strength <= 0 or self.learning_rate <= 0 or self.clip <= 0:
            raise ValueError(
                f"strength, learning_rate and clip must be positive, got {self.strength}, {self.learning_rate} and "
                f"{self.clip}"
            )
        if self.sft_weight < 0 or self.second < 0:
            raise ValueError(f"sft_weight and second must not be negative, got {self.sft_weight} and {self.second}")
        if self.loss == "kto" and self.batch < 2:
            raise ValueError("KTO needs batches of two pairs or more: its reference point comes from a shifted batch")
        if not 0 <= self.warmup < 1 or not 0 <= self.final_share <= 1:
            raise ValueError(f"warmup and final_share must be shares, got {self.warmup} and {self.final_share}")

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares with the start."""
        return self.loss in WITH_REFERENCE
