"""The words in which a notebook states an experiment: `Lab`, and the measures of its answers."""

from zephyr_lab.lab.answers import HOT_SCORE, OFFICIAL_SCORE, PARTS, SCORE
from zephyr_lab.lab.opening import Lab

__all__ = ["HOT_SCORE", "OFFICIAL_SCORE", "PARTS", "SCORE", "Lab"]
