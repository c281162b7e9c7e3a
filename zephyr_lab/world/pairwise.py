"""A judge of pairs with planted errors: noise, a liking for the first place, a liking for length.

It prefers the second answer where

    exact(second) - exact(first) + length_bias (words(second) - words(first)) - position_bias + N(0, noise_sd) > 0

All three are in points of the rubric (for `length_bias`, points a word). `calibration` finds them again.
"""

import random
from dataclasses import dataclass

from zephyr_lab.world.judge import grade
from zephyr_lab.world.task import Turn


@dataclass(frozen=True, slots=True)
class Comparison:
    """One judged pair. `preference` as in AlpacaEval's annotations: 1 the first answer, 2 the second, 1.5 a draw.

    `difference` is exact(second) - exact(first); `longer` is words(second) - words(first).
    """

    preference: float
    difference: float
    longer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairJudge:
    """Settings of the judge; the default is exact. Within `draw_margin` of each other, answers draw."""

    noise_sd: float = 0.0
    position_bias: float = 0.0
    length_bias: float = 0.0
    draw_margin: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("noise_sd", "draw_margin"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def compare(self, turn: Turn, first: str, second: str) -> Comparison:
        """The verdict on two answers shown in this order; equal arguments, equal verdict."""
        shown = grade(turn, first), grade(turn, second)
        difference, longer = shown[1].exact - shown[0].exact, shown[1].words - shown[0].words
        margin = difference + self.length_bias * longer - self.position_bias
        if self.noise_sd:
            margin += random.Random(f"pair {self.seed}|{turn.prompt}|{first}|{second}").gauss(0.0, self.noise_sd)
        preference = 1.5 if abs(margin) <= self.draw_margin else 2.0 if margin > 0 else 1.0
        return Comparison(preference, difference, longer)
