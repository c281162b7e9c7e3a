"""The preference losses in the one form that `shared_prompt.loss` takes: (policy, reference, lengths) -> losses.

Only names of arguments differ from `losses.dpo` and its kin, which hold the formulas.
"""

from collections.abc import Callable

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.cdpo import cdpo_loss
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.ipo import ipo_loss
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.losses.mean_log_probs import PairLengths
from zephyr_lab.losses.orpo import orpo_loss
from zephyr_lab.losses.simpo import simpo_loss

PairLoss = Callable[[PairLogProbs, PairLogProbs | None, PairLengths], PairScores]


def dpo(*, beta: float) -> PairLoss:
    """`dpo_loss`; a reference is needed."""
    return lambda policy, reference, lengths: dpo_loss(policy, _required(reference), beta=beta)


def cdpo(*, beta: float, label_smoothing: float) -> PairLoss:
    """`cdpo_loss`; a reference is needed."""
    return lambda policy, reference, lengths: cdpo_loss(
        policy, _required(reference), beta=beta, label_smoothing=label_smoothing
    )


def ipo(*, tau: float) -> PairLoss:
    """`ipo_loss`; a reference is needed."""
    return lambda policy, reference, lengths: ipo_loss(policy, _required(reference), tau=tau)


def simpo(*, beta: float, gamma: float) -> PairLoss:
    """`simpo_loss`, which knows no reference."""
    return lambda policy, reference, lengths: simpo_loss(policy, lengths, beta=beta, gamma=gamma)


def orpo(*, weight: float) -> PairLoss:
    """`orpo_loss`, which knows no reference."""
    return lambda policy, reference, lengths: orpo_loss(policy, lengths, weight=weight)


def _required(reference: PairLogProbs | None) -> PairLogProbs:
    if reference is None:
        raise ValueError("this loss compares with a reference: hand over its pair_log_probs of the same pairs")
    return reference
