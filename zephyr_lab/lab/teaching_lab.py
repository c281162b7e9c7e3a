"""The words for RLHF beside DPO: reward models, policy gradients, what an arm reaches at what distance."""

from zephyr_lab.lab.family_lab import FamilyLab


class TeachingLab(FamilyLab):
    """A laboratory with these words beside those of `Lab`."""
