"""The words of A Teacher Is Worth A Million Instructions: distillation, mixtures, domain alignment.

Kothari et al. 2024, arXiv 2406.19112.
"""

from zephyr_lab.lab.laboratory import Lab


class KDLab(Lab):
    """A laboratory with these words beside those of `Lab`."""
