"""Which further arms an experiment has at a profile: tables of settings.toml that no training reads."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StepArms:
    """Arms beside Table 3's. sft_epochs: of Figure 3's grid, 1 among them; rejected: rules beside the paper's random
    draw; cards: named recipe settings; betas: beside the paper's; bases: how many bases the spread is shown over."""

    sft_epochs: tuple[int, ...]
    rejected: tuple[str, ...]
    cards: tuple[str, ...]
    betas: tuple[float, ...]
    bases: int

    def __post_init__(self) -> None:
        if 1 not in self.sft_epochs:
            raise ValueError(f"sft_epochs must hold 1, the paper's, got {self.sft_epochs}")
        if self.bases < 1:
            raise ValueError(f"bases must be at least 1, got {self.bases}")


@dataclass(frozen=True, kw_only=True)
class RewardStudy:
    """Reward models of several sizes, and a climb too far. pairs: sizes of the training set on the learning curve, 0
    for all; weak_pairs: of the reward model that is to be over-optimised; rate_times: how many times the tuned learning
    rate pushes; steps: of that run; keep: where its policies are measured."""

    pairs: tuple[int, ...]
    weak_pairs: int
    rate_times: float
    steps: int
    keep: tuple[int, ...]
