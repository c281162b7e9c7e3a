"""Which option a model chooses, from log-probabilities alone: the rules of the Open LLM Leaderboard.

EleutherAI's harness scores ARC and HellaSwag by the log-probability of a whole option divided by its characters
("acc_norm"), MMLU by the sum ("acc"), TruthfulQA by the share of probability that the true options have ("mc2").
"""

from collections.abc import Sequence

import numpy as np


def normalised(log_probs: Sequence[float], characters: Sequence[int], answer: int) -> float:
    """1 where the right option has the highest log-probability a character, 0 where another has it (acc_norm).

    Options that share the first place share the point. Raises ValueError for an option without characters.
    """
    if min(characters) < 1:
        raise ValueError(f"every option needs at least one character, got {list(characters)}")
    return _first(np.asarray(log_probs, dtype=float) / np.asarray(characters, dtype=float), answer)


def summed(log_probs: Sequence[float], answer: int) -> float:
    """1 where the right option has the highest log-probability in all, which favours short options (acc)."""
    return _first(np.asarray(log_probs, dtype=float), answer)


def share(log_probs: Sequence[float], answer: int) -> float:
    """p(right option) / sum of p over all options, 0 to 1 (mc2 with one true option)."""
    values = np.asarray(log_probs, dtype=float)
    weights = np.exp(values - values.max())
    return float(weights[answer] / weights.sum())


def _first(values: np.ndarray, answer: int) -> float:
    best = np.flatnonzero(values == values.max())
    return 1.0 / len(best) if answer in best else 0.0
