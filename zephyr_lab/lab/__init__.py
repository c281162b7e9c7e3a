"""The words in which a notebook states an experiment: `Lab`, its arms, and the measures of their answers."""

from zephyr_lab.lab.answers import ENDINGS, HOT_SCORE, OFFICIAL_SCORE, PARTS, SCORE
from zephyr_lab.lab.laboratory import Lab

__all__ = ["ENDINGS", "HOT_SCORE", "OFFICIAL_SCORE", "PARTS", "SCORE", "Lab"]
