"""What a judge may want of an answer: quality by the rubric, or quality at a price for every word.

Two objectives on the same verdicts: whoever changes the labels of the data and the judge from one to the other has
changed what is learned, and nothing else.
"""

from zephyr_lab.world.judge import Verdict

QUALITY, BRIEF = "quality", "brief"
OBJECTIVES = (QUALITY, BRIEF)
WORD_PRICE = 0.5  # points a word: an explanation earns 2 and costs about 7 words


def value(verdict: Verdict, objective: str) -> float:
    """Points of an answer under `objective`: its exact score, less the price of its words where those count.

    Raises ValueError for an unknown objective.
    """
    if objective == QUALITY:
        return verdict.exact
    if objective == BRIEF:
        return verdict.exact - WORD_PRICE * verdict.words
    raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
