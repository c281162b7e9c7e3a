"""Tables of settings.toml that no training reads: which further arms an experiment has, and how many of what."""

from dataclasses import dataclass, replace
from typing import TypeVar

from zephyr_lab.methods.recipes.limits import require_world
from zephyr_lab.world.facts import WorldSize

AnyGrids = TypeVar("AnyGrids", bound="Grids")


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
class AblationArms:
    """Arms beside Table 2. control_seeds: most seeds of a control that no claim rests on. judgings:
    how often one model of each arm of K2 is asked again. judge_sd: error of the judge that reads one model's answers
    again, on each answer. longest: tokens of the dialogue whose attention is drawn. pairs: prompts of the arm with
    preference learning (`KDLab.pairs_of_equal_compute`)."""

    control_seeds: int
    judgings: int
    judge_sd: float
    longest: int
    pairs: int

    def __post_init__(self) -> None:
        if self.control_seeds < 1 or self.judgings < 2:
            raise ValueError(
                f"control_seeds must be at least 1 and judgings 2, got {self.control_seeds} and {self.judgings}"
            )


@dataclass(frozen=True, kw_only=True)
class AlignmentArms:
    """Arms beside domain alignment's own. shares: of domain rows in DAE's data, the paper's 0.1 and K8's 0.5 among
    them; doses: steps whose models are asked beside the last; control_seeds: most seeds of an arm that no claim rests
    on; misrouted: share of wrong labels in the control."""

    shares: tuple[float, ...]
    doses: tuple[int, ...]
    control_seeds: int
    misrouted: float

    def __post_init__(self) -> None:
        for needed in (0.1, 0.5):
            if needed not in self.shares:
                raise ValueError(f"shares must hold {needed}, which claim K8 compares, got {self.shares}")
        if self.control_seeds < 1:
            raise ValueError(f"control_seeds must be at least 1, got {self.control_seeds}")


@dataclass(frozen=True, kw_only=True)
class Grids:
    """Points of regime maps, a tuple a knob. full_from: seeds from which all are computed; with fewer, every second
    value of a knob that has more than three is left out."""

    full_from: int

    def at(self: AnyGrids, seeds: int) -> AnyGrids:
        """The points that `seeds` seeds are worth."""
        knobs = {name: value for name, value in vars(self).items() if isinstance(value, tuple) and len(value) > 3}
        return self if seeds >= self.full_from else replace(self, **{name: knobs[name][::2] for name in knobs})


@dataclass(frozen=True, kw_only=True)
class PreferenceGrids(Grids):
    """Where preference learning is compared with fine-tuning on the chosen answers. writers: of the chosen and of the
    rejected answers; turned_over: share of pairs with the labels exchanged; dialogues: of the start's dSFT, beside
    those of settings.toml; doses: epochs and times of the standard learning rate of dDPO; betas: of each dose."""

    writers: tuple[tuple[str, str], ...]
    turned_over: tuple[float, ...]
    dialogues: tuple[int, ...]
    doses: tuple[tuple[int, float], ...]
    betas: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TeacherGrids(Grids):
    """Where a teacher is compared with its absence. noises: of the dialogues, beside those of settings.toml; rows: of
    dialogues, likewise; temperatures: beside the paper's 1; long_epochs: of DAE's longest run, of which `long_steps`
    are kept; expert_steps: after which an expert in training is taken, its domain rows of `expert_noise` ("" for the
    data's own); expert_rows: its dialogues; per_group: domain questions of each group."""

    noises: tuple[str, ...]
    rows: tuple[int, ...]
    temperatures: tuple[float, ...]
    long_epochs: int
    long_steps: tuple[int, ...]
    expert_rows: int
    expert_noise: str
    expert_steps: tuple[int, ...]
    per_group: int


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


@dataclass(frozen=True, kw_only=True)
class Filtering:
    """`rows` dialogues a seed; shares of them repeat an earlier one, or ask a benchmark question."""

    world: str
    rows: int
    duplicates: float
    contamination: float

    def __post_init__(self) -> None:
        require_world(self.world)


@dataclass(frozen=True, kw_only=True)
class PreferencePairs:
    """`prompts` a seed, each with four answers."""

    world: str
    prompts: int

    def __post_init__(self) -> None:
        require_world(self.world)
        if self.prompts < 2:
            raise ValueError(f"prompts must be at least 2, got {self.prompts}")

    @property
    def size(self) -> WorldSize:
        return require_world(self.world)


@dataclass(frozen=True, kw_only=True)
class WorldTour(PreferencePairs):
    """The rest is planted: noise (sd), position and length bias of judges of answers and of pairs, and noise of the
    overall rating. `bases`: the most base models that are probed."""

    noise_sds: tuple[float, ...]
    position_biases: tuple[float, ...]
    length_biases: tuple[float, ...]
    rating_sds: tuple[float, ...]
    bases: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bases < 1:
            raise ValueError(f"bases must be at least 1, got {self.bases}")
