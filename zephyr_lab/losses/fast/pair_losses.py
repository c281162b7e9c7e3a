"""The preference losses in the one form that trainings on pairs call: (policy, reference, lengths) -> losses.

Only names of arguments differ from `losses.dpo` and its kin, which hold the formulas. `as_pair_loss` brings a loss of
your own into this form, and looks at what it gives back.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.cdpo import cdpo_loss
from zephyr_lab.losses.dpo import dpo_loss
from zephyr_lab.losses.ipo import ipo_loss
from zephyr_lab.losses.log_probs import PairLengths, PairLogProbs
from zephyr_lab.losses.orpo import orpo_loss
from zephyr_lab.losses.sft_dpo import sft_dpo_loss
from zephyr_lab.losses.simpo import simpo_loss

PairLoss = Callable[[PairLogProbs, PairLogProbs | None, PairLengths], PairScores]
ARGUMENTS = ("policy", "reference", "lengths")
FORMS = "write (policy, reference), (policy, lengths), (policy,) or (policy, reference, lengths)"


@dataclass(frozen=True)
class NamedLoss:
    """A `PairLoss` that knows which of the three arguments its function takes, and checks what comes back."""

    function: Callable[..., Any]
    takes: tuple[str, ...]

    @property
    def needs_reference(self) -> bool:
        """Whether a reference's log-probabilities are asked for."""
        return "reference" in self.takes

    def __call__(self, policy: PairLogProbs, reference: PairLogProbs | None, lengths: PairLengths) -> PairScores:
        """One loss a pair. Raises ValueError for a missing reference, another shape, a NaN, or a lost gradient."""
        if self.needs_reference and reference is None:
            raise ValueError("this loss compares with a reference: hand over its pair_log_probs of the same pairs")
        arguments = {"policy": policy, "reference": reference, "lengths": lengths}
        return _checked(self.function(*(arguments[name] for name in self.takes)), policy, name_of(self.function))


def as_pair_loss(loss: Any) -> NamedLoss:
    """`loss` in the form of all trainings on pairs: your own function too, which gives one loss a pair, shape (pair,).

    Its arguments are known by their names where these are among policy, reference and lengths, else by their order, two
    of them being policy and reference; arguments with a default keep it. Raises TypeError for any other signature.

    >>> def hinge(policy, reference):
    ...     margin = (policy.chosen - reference.chosen) - (policy.rejected - reference.rejected)
    ...     return (1 - 0.1 * margin).clamp(min=0)
    >>> as_pair_loss(hinge).takes
    ('policy', 'reference')
    """
    if isinstance(loss, NamedLoss):
        return loss
    if not callable(loss):
        raise TypeError(f"loss must be a function of pairs, got {loss!r}; {FORMS}")
    by_order = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(loss).parameters.values()
    unset = [one for one in parameters if one.default is inspect.Parameter.empty or one.name in ARGUMENTS]
    names = tuple(one.name for one in unset if one.kind in by_order)
    if any(one.kind is inspect.Parameter.KEYWORD_ONLY for one in unset) or not 1 <= len(names) <= len(ARGUMENTS):
        raise TypeError(f"loss {name_of(loss)}{inspect.signature(loss)} cannot be called on pairs; {FORMS}")
    return NamedLoss(loss, names if set(names) <= set(ARGUMENTS) else ARGUMENTS[: len(names)])


def name_of(loss: Callable[..., Any]) -> str:
    """What a message calls a loss; one of this module by its settings too: dpo(beta=0.1)."""
    if isinstance(loss, NamedLoss):
        return name_of(loss.function)
    name = getattr(loss, "__name__", type(loss).__name__)
    if name != "<lambda>" or loss.__module__ != __name__:
        return name
    settings = inspect.getclosurevars(loss).nonlocals
    values = ", ".join(f"{key}={value}" for key, value in settings.items() if isinstance(value, int | float))
    return f"{loss.__qualname__.split('.<locals>.')[-2]}({values})"


def dpo(*, beta: float) -> PairLoss:
    """`dpo_loss`; a reference is needed."""
    return as_pair_loss(lambda policy, reference: dpo_loss(policy, reference, beta=beta))


def cdpo(*, beta: float, label_smoothing: float) -> PairLoss:
    """`cdpo_loss`; a reference is needed."""
    return as_pair_loss(
        lambda policy, reference: cdpo_loss(policy, reference, beta=beta, label_smoothing=label_smoothing)
    )


def ipo(*, tau: float) -> PairLoss:
    """`ipo_loss`; a reference is needed."""
    return as_pair_loss(lambda policy, reference: ipo_loss(policy, reference, tau=tau))


def simpo(*, beta: float, gamma: float) -> PairLoss:
    """`simpo_loss`, which knows no reference."""
    return as_pair_loss(lambda policy, lengths: simpo_loss(policy, lengths, beta=beta, gamma=gamma))


def orpo(*, weight: float) -> PairLoss:
    """`orpo_loss`, which knows no reference."""
    return as_pair_loss(lambda policy, lengths: orpo_loss(policy, lengths, weight=weight))


def sft_dpo(*, beta: float, weight: float) -> PairLoss:
    """`sft_dpo_loss`, both steps as one; a reference is needed."""
    return as_pair_loss(
        lambda policy, reference, lengths: sft_dpo_loss(policy, reference, lengths, beta=beta, weight=weight)
    )


def _checked(losses: Any, policy: PairLogProbs, name: str) -> PairScores:
    """`losses`, or ValueError: a mean of the wrong things would train on without a word."""
    pairs = tuple(policy.chosen.shape)
    if not isinstance(losses, torch.Tensor) or tuple(losses.shape) != pairs:
        got = f"shape {tuple(losses.shape)}" if isinstance(losses, torch.Tensor) else type(losses).__name__
        raise ValueError(f"loss {name} must give one loss a pair, shape {pairs}, got {got}; do not average inside")
    if not losses.isfinite().all():
        index = int((~losses.isfinite()).nonzero()[0])
        raise ValueError(f"loss {name} is {losses[index].item()} for pair {index + 1} of {pairs[0]}: training halted")
    if policy.chosen.requires_grad and not losses.requires_grad:
        raise ValueError(f"loss {name} has no gradient to the policy: write it in torch, without item() or detach()")
    return losses
