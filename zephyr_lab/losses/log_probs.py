"""Log-probabilities of whole responses, as preference losses take them: summed over the response's tokens."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from zephyr_lab.core.shapes import PairScores, at_least_float32, require_same_shape


@dataclass(frozen=True, slots=True)
class PairLogProbs:
    """log pi(response | prompt) of the chosen and the rejected response of each pair, in nats, shape (pair,) each.

    Held in float32 at least, so that no preference loss subtracts narrower numbers. Raises ValueError unless both have
    one shape.
    """

    chosen: PairScores
    rejected: PairScores

    def __post_init__(self) -> None:
        require_same_shape(chosen=self.chosen, rejected=self.rejected)
        for name in ("chosen", "rejected"):
            object.__setattr__(self, name, at_least_float32(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class PairLengths:
    """Tokens of the chosen and the rejected response of each pair, the end token included, shape (pair,) each.

    Raises ValueError unless both have one shape and every response has a token.
    """

    chosen: Int[Tensor, " pair"]
    rejected: Int[Tensor, " pair"]

    def __post_init__(self) -> None:
        require_same_shape(chosen=self.chosen, rejected=self.rejected)
        for name, lengths in (("chosen", self.chosen), ("rejected", self.rejected)):
            if (lengths < 1).any():
                raise ValueError(f"{name} has a response of {int(lengths.min())} tokens; a mean needs at least one")


def mean_log_probs(policy: PairLogProbs, lengths: PairLengths) -> PairLogProbs:
    """Summed log-probabilities over token counts: the mean log-probability of a token, shape (pair,) each.

    Raises ValueError where shapes differ.
    """
    require_same_shape(policy=policy.chosen, lengths=lengths.chosen)
    return PairLogProbs(policy.chosen / lengths.chosen, policy.rejected / lengths.rejected)
