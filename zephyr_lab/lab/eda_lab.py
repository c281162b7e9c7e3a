"""The words of Efficiently Aligning Draft Models: targets, drafts, and how to adapt them.

Lin et al. 2026, arXiv 2603.09527.
"""

from zephyr_lab.lab.laboratory import Lab


class EDALab(Lab):
    """A laboratory with these words beside those of `Lab`."""
