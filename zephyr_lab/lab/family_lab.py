"""The words for losses of the DPO family: preference learning without a reward model."""

from zephyr_lab.lab.laboratory import Lab


class FamilyLab(Lab):
    """A laboratory with these words beside those of `Lab`."""
