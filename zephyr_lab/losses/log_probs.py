"""Log-probabilities of whole responses, as preference losses take them: summed over the response's tokens."""

from dataclasses import dataclass

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
