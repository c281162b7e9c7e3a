"""Log-probabilities averaged over a response's tokens, as ORPO and SimPO take them; DPO, IPO and KTO take the sum."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from zephyr_lab.core.shapes import require_same_shape
from zephyr_lab.losses.log_probs import PairLogProbs


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
