"""What a feature draft is trained with: to guess the target's features, and the token distributions that follow.

Read from the authors' code (papers/eda/NOTES.md, section 2): L = SmoothL1 of features + 0.1 soft cross entropy through
the target's head. Losses come back for each place; how they are summed up is a choice of its own, for the authors'
code divides by padding too.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from zephyr_lab.core.shapes import at_least_float32

Losses = Float[Tensor, " place"]


def feature_losses(guessed: Float[Tensor, "place hidden"], true: Float[Tensor, "place hidden"]) -> Losses:
    """SmoothL1 (beta 1) between guessed and true features, averaged over the hidden dimensions; (place,)."""
    return smooth_l1_loss(at_least_float32(guessed), at_least_float32(true), reduction="none").mean(dim=-1)


def soft_cross_entropies(draft: Float[Tensor, "place entry"], target: Float[Tensor, "place entry"]) -> Losses:
    """-sum_v softmax(target)_v log softmax(draft)_v in nats, from logits; (place,).

    KL(target, draft) plus the target's entropy, so that this entropy is its floor. No gradient flows to the target.
    """
    draft, target = at_least_float32(draft), at_least_float32(target.detach())
    return -(target.softmax(dim=-1) * draft.log_softmax(dim=-1)).sum(dim=-1)


def token_mean(losses: Losses) -> Float[Tensor, ""]:
    """The mean over the places that count."""
    return losses.mean()


def padded_mean(losses: Losses, *, rows: int, padded_length: int) -> Float[Tensor, ""]:
    """The sum over the places that count, divided by rows x padded length, as the authors' code has it.

    Other rows' lengths and the prompts then set how large a step an answer makes.
    """
    return losses.sum() / (rows * padded_length)


def input_noise(
    features: Float[Tensor, "row position hidden"],
    lengths: Int[Tensor, " row"],
    *,
    width: float,
    generator: torch.Generator,
) -> Float[Tensor, "row position hidden"]:
    """Uniform noise for the features that a draft reads: (u - 0.5) x width x 512 / length, u uniform in [0, 1).

    `lengths`: tokens of each row. The authors' code has width 0.2, so that a row of 512 tokens gets +-0.1.
    """
    uniforms = torch.rand(features.shape, generator=generator, dtype=features.dtype)
    return (uniforms.to(features.device) - 0.5) * (width * 512 / lengths.to(features.dtype))[:, None, None]
