"""Recipes of knowledge distillation: which losses, over which tokens, from which teacher.

Kothari et al. 2024, arXiv 2406.19112, equations (2) to (5), and where their code differs. Plain values, no torch.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.limits import require_at_least, require_one_of, require_share, require_steps
from zephyr_lab.methods.recipes.training import DSFTRecipe, Staged, Training

DIVERGENCES = ("forward", "reverse")
TOKENS = ("all", "answers", "answers_unshifted")
REDUCTIONS = ("sequences", "tokens")
ORDERS = ("lengths", "random")


@dataclass(frozen=True, kw_only=True)
class Distillation(Training):
    """What KD and DAE share, beside `Training`.

    Defaults are the paper's text. divergence: KL(teacher, student), "forward", as printed, or KL(student, teacher),
    "reverse". temperature divides both models' logits; temperature_squared multiplies the loss by its square, as the
    code does.
    tokens: positions that count. "all": every one of the text, as printed; "answers": those that predict a token of an
    answer; "answers_unshifted": those of the answers' own tokens, as the code masks, one late.
    reduction: "sequences", the mean over each row's positions, then over rows, as printed; "tokens", one mean over all
    positions of a micro-batch, as in the code.
    packed: rows filled up with several dialogues that do not see each other (without it each dialogue is a row).
    gradient_norms_every: every how many steps the gradient norm of each loss alone is logged; 0: never.
    """

    divergence: str = "forward"
    temperature: float = 1.0
    temperature_squared: bool = False
    tokens: str = "all"
    reduction: str = "sequences"
    packed: bool = False
    gradient_norms_every: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("divergence", self.divergence, DIVERGENCES)
        require_one_of("tokens", self.tokens, TOKENS)
        require_one_of("reduction", self.reduction, self.reductions())
        require_at_least(0, gradient_norms_every=self.gradient_norms_every)
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature} (the paper has 1)")

    @classmethod
    def reductions(cls) -> tuple[str, ...]:
        return REDUCTIONS


@dataclass(frozen=True, kw_only=True)
class KeepsSteps:
    """keep_steps: steps whose model a stage keeps beside the final one, in steps/N."""

    keep_steps: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_steps("keep_steps", self.keep_steps)


@dataclass(frozen=True, kw_only=True)
class KD(Distillation):
    """Distillation from one teacher (eq. 5): the weighted sum of prediction, attention and cross-entropy loss.

    Weights as printed: 1, 1 and 0. The code's lambda is `ce_weight` = 1 - lambda and lambda for the others. A loss of
    weight 0 is logged and not trained. layer_map: the teacher's layer (from 0) for each layer of the student, head_map
    likewise for heads; () pairs equal numbers, and is refused where the two models have unlike ones.
    """

    prediction_weight: float = 1.0
    attention_weight: float = 1.0
    ce_weight: float = 0.0
    layer_map: tuple[int, ...] = ()
    head_map: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = {
            "prediction_weight": self.prediction_weight,
            "attention_weight": self.attention_weight,
            "ce_weight": self.ce_weight,
        }
        for name, value in weights.items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        if not any(weights.values()):
            raise ValueError(f"one of {', '.join(weights)} must be above 0, else nothing is trained")


@dataclass(frozen=True, kw_only=True)
class OnPolicyKD(KD):
    """Distillation on the student's own answers (MiniLLM, GKD): an extra arm, not the paper's.

    sampled_share: probability that a micro-batch is answered by the student (GKD's lambda); the others are the data
    set's. One answer of each dialogue is replaced and counts; sampled_tokens: the most that it may have.
    sampling_temperature: of the student's draws. Defaults: MiniLLM's direction on the student's answers alone, one mean
    over their tokens, without the attention loss.
    """

    divergence: str = "reverse"
    tokens: str = "answers"
    reduction: str = "tokens"
    attention_weight: float = 0.0
    sampled_share: float = 1.0
    sampled_tokens: int = 256
    sampling_temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(sampled_share=self.sampled_share)
        require_at_least(1, sampled_tokens=self.sampled_tokens)
        if self.sampling_temperature < 0:
            raise ValueError(f"sampling_temperature must not be negative, got {self.sampling_temperature}")
        if self.packed:
            raise ValueError("packed must be false: answers are sampled for one dialogue a row")
        if self.tokens != "answers":
            raise ValueError(
                f"tokens must be 'answers', got {self.tokens!r}: only the sampled answers are the student's"
            )


@dataclass(frozen=True, kw_only=True)
class KDRecipe(KeepsSteps, Staged, KD):
    """`KD` as a stage. teacher: folder inside the teacher's stage, "" for its final model."""

    teacher: str


@dataclass(frozen=True, kw_only=True)
class OnPolicyKDRecipe(KeepsSteps, Staged, OnPolicyKD):
    """`OnPolicyKD` as a stage. teacher: as `KDRecipe`."""

    teacher: str


@dataclass(frozen=True, kw_only=True)
class DoseRecipe(KeepsSteps, DSFTRecipe):
    """Supervised fine-tuning as dSFT, with the models of some steps kept: one run, a curve over the dose.

    Muon reaches the fused expert weights of a mixture too. order: of rows, "lengths" as in dSFT (batches of like
    lengths), or "random", as DAE reads them.
    """

    order: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("order", self.order, ORDERS)
