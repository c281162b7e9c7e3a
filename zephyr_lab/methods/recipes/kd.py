"""Recipes of KD and DAE: which losses, over which tokens, from which teacher; and of their evaluation.

Kothari et al. 2024, arXiv 2406.19112, equations (2) to (6), and where their code differs. Plain values, no torch.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes import limits
from zephyr_lab.methods.recipes.evaluate import Evaluation
from zephyr_lab.methods.recipes.training import DSFTRecipe, Staged, Training

DIVERGENCES = ("forward", "reverse")
TOKENS = ("all", "answers", "answers_unshifted")
REDUCTIONS = ("sequences", "tokens")
ORDERS = ("lengths", "random")
LAYER_MAPS, HEAD_MAPS = ("uniform",), ("group_means",)
WEIGHTS = ("prediction_weight", "attention_weight", "ce_weight")
DOMAIN_TEACHERS = ("expert", "general")
START, DIALOGUES = "start", "dialogues"  # inputs that retention needs; every other input but the pairs is a model


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
        limits.require_one_of("divergence", self.divergence, DIVERGENCES)
        limits.require_one_of("tokens", self.tokens, TOKENS)
        limits.require_one_of("reduction", self.reduction, self.reductions())
        limits.require_at_least(0, gradient_norms_every=self.gradient_norms_every)
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
        limits.require_steps("keep_steps", self.keep_steps)


@dataclass(frozen=True, kw_only=True)
class KD(Distillation):
    """Distillation from one teacher (eq. 5): the weighted sum of prediction, attention and cross-entropy loss.

    Weights as printed: 1, 1 and 0. The code's lambda is `ce_weight` = 1 - lambda and lambda for the others. A loss of
    weight 0 is logged and not trained. layer_map: the teacher's layer (from 0) for each layer of the student, head_map
    likewise for heads; () pairs equal numbers, and is refused where the two models have unlike ones. Words in their
    place: layer_map "uniform", an even choice of the teacher's layers; head_map "group_means", the mean map of
    neighbouring heads.
    """

    prediction_weight: float = 1.0
    attention_weight: float = 1.0
    ce_weight: float = 0.0
    layer_map: tuple[int, ...] | str = ()
    head_map: tuple[int, ...] | str = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, words in (("layer_map", LAYER_MAPS), ("head_map", HEAD_MAPS)):
            if isinstance(getattr(self, name), str):
                limits.require_one_of(name, getattr(self, name), words)
        for name in WEIGHTS:
            limits.require_not_negative(**{name: getattr(self, name)})
        if not any(getattr(self, name) for name in WEIGHTS):
            raise ValueError(f"one of {', '.join(WEIGHTS)} must be above 0, else nothing is trained")


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
        limits.require_share(sampled_share=self.sampled_share)
        limits.require_at_least(1, sampled_tokens=self.sampled_tokens)
        limits.require_not_negative(sampling_temperature=self.sampling_temperature)
        if self.packed:
            raise ValueError("packed must be false: answers are sampled for one dialogue a row")
        if self.tokens != "answers":
            raise ValueError(f"tokens must be 'answers', got {self.tokens!r}: only answers are sampled")


@dataclass(frozen=True, kw_only=True)
class OfflineKD(KD):
    """Distillation from a file of a teacher's likeliest tokens, in which neither maps nor other temperatures are."""

    attention_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        only = {"divergence": "forward", "temperature": 1.0, "attention_weight": 0.0, "packed": False}
        for name, value in only.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} must be {value!r} with a teacher from a file, got {getattr(self, name)!r}")


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
        limits.require_one_of("order", self.order, ORDERS)


@dataclass(frozen=True, kw_only=True)
class DAE(Distillation):
    """Domain rows follow the expert, the others the general teacher, which is the frozen start unless another is given.

    Learning rate and schedule are those of the paper's section 3.1.3. reference_term: whether general rows count at all
    (the second sum of eq. 6). domain_teacher: "expert", or "general" for the control in which one teacher answers for
    all rows. misrouted: share of rows of either kind whose domain flag is flipped, to see what wrong labels cost.
    reduction: as `Distillation`, and "groups": the mean over domain rows plus the mean over general rows, a second
    reading of eq. 6's two sums, in which the smaller group weighs as much as the larger.
    """

    learning_rate: float = 5e-7
    schedule: str = "constant"
    reference_term: bool = True
    domain_teacher: str = "expert"
    misrouted: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        limits.require_one_of("domain_teacher", self.domain_teacher, DOMAIN_TEACHERS)
        limits.require_share(misrouted=self.misrouted)

    @classmethod
    def reductions(cls) -> tuple[str, ...]:
        return (*REDUCTIONS, "groups")


@dataclass(frozen=True, kw_only=True)
class DAERecipe(KeepsSteps, Staged, DAE):
    """`DAE` as a stage. expert, general: folders inside the teachers' stages, "" for their final models."""

    expert: str
    general: str


@dataclass(frozen=True, kw_only=True)
class OwnLossKD(KDRecipe):
    """`KD` as a stage, with a loss from a notebook (the text that `engine.own_code` made of it) in place of eq. 2."""

    own_loss: str


@dataclass(frozen=True, kw_only=True)
class KDEvaluation(Evaluation):
    """An `Evaluation` with the domain set and retention.

    per_group: e-commerce questions for each of the twenty groups, 0 for none. hot: whether there is the second run, at
    `temperature` in all categories. start: folder inside the input "start", the model that divergences are measured
    from, on the held-out general dialogues of the input "dialogues".
    """

    per_group: int
    hot: bool
    start: str

    def __post_init__(self) -> None:
        super().__post_init__()
        limits.require_not_negative(per_group=self.per_group)
        for name in (START, DIALOGUES):
            if name in self.models:
                raise ValueError(f"a model cannot be called {name!r}: that input is for retention")
