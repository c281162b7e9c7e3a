"""Recipes of stages that apply a function from a notebook: a filter, a rule of pairs, a rubric. Plain values, no torch.

Each function is the text that `engine.own_code` made of it, so it is part of the key. The recipes without one are
classes of their own: what they made stays as it is.
"""

from dataclasses import dataclass

from zephyr_lab.methods.recipes.world_data import WorldPairs
from zephyr_lab.methods.recipes.worlds import require_world


@dataclass(frozen=True, kw_only=True)
class OwnFilter:
    """A filter of finished dialogues, their messages in and whether to keep them, or repaired ones, out."""

    own_filter: str


@dataclass(frozen=True, kw_only=True)
class OwnWorldPairs(WorldPairs):
    """`WorldPairs` with a choice of one's own. own_choose: the chosen answer; own_reject: the rejected one, or both.

    "" leaves that side to the rule that `chosen` or `rejected` names.
    """

    own_choose: str
    own_reject: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.own_choose or self.own_reject):
            raise ValueError("own_choose or own_reject must be a function; WorldPairs has neither")


@dataclass(frozen=True, kw_only=True)
class OwnRubric:
    """A rubric for the finished answers of an evaluation: `questions` of the world, as it asked them."""

    world: str
    questions: int
    own_rubric: str

    def __post_init__(self) -> None:
        require_world(self.world)
