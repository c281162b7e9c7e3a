"""Settings of the toy's notebooks: which toys, each method's knob, how many preferences, how long. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ToySize:
    """One toy a seed: arguments of `toy.draw`."""

    prompts: int
    answers: int
    beta: float


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What each method of the family has beside the preferences; DPO and RLHF share the toy's beta."""

    tau: float  # IPO
    label_smoothing: float  # cDPO
    kto_beta: float
    orpo_weight: float
    simpo_beta: float
    simpo_gamma: float


@dataclass(frozen=True, kw_only=True)
class Runs:
    """How long, and on how much.

    steps: of gradient descent with momentum, at `rate` on rewards (DPO's is rate / beta^2); natural_steps at
    natural_rate: of the natural gradient. clip, inner: of PPO. preferences: counts to draw, of which the share
    `held_out` chooses step and penalty; penalties: tried. draws: RLOO's answers in all, `samples` to a prompt at once.
    """

    steps: int
    rate: float
    natural_steps: int
    natural_rate: float
    clip: float
    inner: int
    preferences: tuple[int, ...]
    held_out: float
    penalties: tuple[float, ...]
    draws: tuple[int, ...]
    samples: int
    draw_rate: float

    def __post_init__(self) -> None:
        if self.steps < 1 or self.natural_steps < 1:
            raise ValueError(f"steps and natural_steps must be at least 1, got {self}")
        if not (self.preferences and self.penalties and self.draws):
            raise ValueError("preferences, penalties and draws need at least one value each")


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The values that each method's own knob is tried at, with all preferences known and with `preferences` drawn.

    Every method gets as many values as every other: equal trials. steps, rate: of Adam on the logits; the step is
    chosen on the share `held_out` by the method's own loss. later_steps: of a second method after DPO. sft_weights: of
    the fine-tuning term beside DPO's loss.
    """

    preferences: int
    held_out: float
    steps: int
    rate: float
    later_steps: int
    betas: tuple[float, ...]
    taus: tuple[float, ...]
    kto_betas: tuple[float, ...]
    orpo_weights: tuple[float, ...]
    simpo_betas: tuple[float, ...]
    sft_weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.steps < 1 or self.later_steps < 1:
            raise ValueError(f"steps and later_steps must be at least 1, got {self}")
        tried = (self.betas, self.taus, self.kto_betas, self.orpo_weights, self.simpo_betas, self.sft_weights)
        counts = {len(values) for values in tried}
        if len(counts) > 1 or counts == {0}:
            raise ValueError(f"every method gets the same number of trials, at least 1, got {sorted(counts)}")
