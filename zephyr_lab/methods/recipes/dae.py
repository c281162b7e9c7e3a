"""Recipe of domain alignment from an expert (DAE): each row of a batch follows its own teacher.

Kothari et al. 2024, arXiv 2406.19112, equation (6). Plain values, no torch.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.kd import REDUCTIONS, Distillation, KeepsSteps
from zephyr_lab.methods.recipes.limits import require_one_of, require_share
from zephyr_lab.methods.recipes.training import Staged

DOMAIN_TEACHERS = ("expert", "general")


@dataclass(frozen=True, kw_only=True)
class DAE(Distillation):
    """Domain rows follow the expert, the others the general teacher, which is the frozen start unless another is given.

    Learning rate and schedule are those of the paper's section 3.1.3. reference_term: whether general rows count at all
    (the second sum of eq. 6). domain_teacher: "expert", or "general" for the control in which one teacher answers for
    all rows. misrouted: share of rows of either kind whose domain flag is turned over, to see what wrong labels cost.
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
        require_one_of("domain_teacher", self.domain_teacher, DOMAIN_TEACHERS)
        require_share(misrouted=self.misrouted)

    @classmethod
    def reductions(cls) -> tuple[str, ...]:
        return (*REDUCTIONS, "groups")


@dataclass(frozen=True, kw_only=True)
class DAERecipe(KeepsSteps, Staged, DAE):
    """`DAE` as a stage. expert, general: folders inside the teachers' stages, "" for their final models."""

    expert: str
    general: str
