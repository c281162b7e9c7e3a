"""Settings of preference training with any loss of the family on one loop, and the recipe of its stage. No torch."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.dpo import LONG_PROMPTS
from zephyr_lab.methods.recipes.limits import require_one_of
from zephyr_lab.methods.recipes.training import DEVICES

LOSSES = ("dpo", "ipo", "cdpo", "kto", "orpo", "simpo")


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Offline preference training. Defaults: Zephyr's dDPO (arXiv 2310.16944, section 4.4), for one epoch.

    sft_weight: of an added term, -log-prob a token of the chosen answer. epochs over all pairs in batches of `batch`;
    learning_rate: the peak, after a share `warmup` of all steps, down to `final_share` of it (cosine). clip: largest
    gradient norm. The rest cuts rows as for `DPO`; checkpoint_every: in steps.
    """

    sft_weight: float = 0.0
    epochs: int = 1
    batch: int = 32
    learning_rate: float = 5e-7
    warmup: float = 0.1
    final_share: float = 0.0
    clip: float = 1.0
    max_length: int = 1024
    max_prompt_length: int = 512
    long_prompts: str = "cut_left"
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        require_one_of("long_prompts", self.long_prompts, LONG_PROMPTS)
        if min(self.epochs, self.batch, self.checkpoint_every) < 1:
            raise ValueError("epochs, batch and checkpoint_every must be at least 1")
        if self.learning_rate <= 0 or self.clip <= 0:
            raise ValueError(f"learning_rate and clip must be positive, got {self.learning_rate} and {self.clip}")
        if self.sft_weight < 0:
            raise ValueError(f"sft_weight must not be negative, got {self.sft_weight}")
        if not 0 <= self.warmup < 1 or not 0 <= self.final_share <= 1:
            raise ValueError(f"warmup and final_share must be shares, got {self.warmup} and {self.final_share}")


@dataclass(frozen=True, kw_only=True)
class FamilyRecipe(Preference):
    """`Preference` as a stage, of the input "policy", which is also the reference where the loss has one.

    loss: its name. strength: beta of DPO, cDPO, KTO and SimPO, tau of IPO, the weight (lambda) of ORPO. second: label
    smoothing of cDPO, gamma (the margin itself) of SimPO, 0 elsewhere.
    """

    start: str
    loss: str
    strength: float
    second: float
    device: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("loss", self.loss, LOSSES)
        require_one_of("device", self.device, DEVICES)
        if self.strength <= 0 or self.second < 0:
            raise ValueError(f"strength must be positive, second not negative, got {self.strength} and {self.second}")
        if self.loss == "kto" and self.batch < 2:
            raise ValueError("KTO needs batches of two pairs or more: its reference point comes from a shifted batch")
