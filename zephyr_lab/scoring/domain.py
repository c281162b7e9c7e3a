"""The domain score: e-commerce answers judged by four aspects, each from 1 to 10.

EcommEval of arXiv 2406.19112 is private: twenty groups of tasks, a GPT-4-turbo judge, four aspects. How these are
joined is not printed; here the score of an answer is their plain mean, and a model's the mean over all answers.
"""

from collections.abc import Mapping

ASPECTS = ("instruction_following", "factuality", "accuracy", "helpfulness")
LOWEST, HIGHEST = 1.0, 10.0


def domain_score(aspects: Mapping[str, float]) -> float:
    """The score of one answer, 1 to 10: the mean of its four aspects.

    Raises ValueError for an aspect that is missing, unknown or outside 1 to 10.
    """
    if sorted(aspects) != sorted(ASPECTS):
        raise ValueError(f"an answer is judged by {', '.join(ASPECTS)}; got {', '.join(aspects) or 'nothing'}")
    for name, value in aspects.items():
        if not LOWEST <= value <= HIGHEST:
            raise ValueError(f"{name} must be within {LOWEST:g} and {HIGHEST:g}, got {value}")
    return sum(aspects.values()) / len(ASPECTS)
